//! `poolctl completions`: what a shell needs so that Tab completes poolctl's command line. The shell then
//! asks poolctl itself, each time, by way of the variable [`VARIABLE`].

mod candidates;

use std::env;
use std::ffi::OsString;

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::Context;
use crate::exit::ExitReason;
use crate::term::text;

/// A shell that wants a word completed sets this variable to its name.
pub const VARIABLE: &str = "POOLCTL_COMPLETE";

/// Print the completions of a shell
///
/// They complete verbs, options and their values, and the ids, pools, labels and schedules that poold has at
/// that moment. They never start a poold.
#[derive(Debug, Args)]
pub struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// bash takes `:`, `=` and `@` for ends of words, unless its user says otherwise. This puts the pieces of a
/// word together before poolctl is asked, and leaves out of the answers what bash keeps: all before `$2`, which
/// is what it replaces.
const WHOLE_WORDS: &str = r#"
_poolctl_whole_words() {
    local whole=${COMP_LINE:0:COMP_POINT} place=$COMP_CWORD joined=${COMP_WORDS[COMP_CWORD]}
    whole=${whole##*[[:space:]]}
    while [[ $joined != "$whole" && $place -gt 1 ]]; do
        place=$((place - 1))
        joined=${COMP_WORDS[place]}$joined
    done
    if [[ $joined != "$whole" || $2 == "$whole" ]]; then
        _clap_complete_poolctl "$@"
        return
    fi
    local COMP_WORDS=("${COMP_WORDS[@]:0:place}" "$whole") COMP_CWORD=$place
    _clap_complete_poolctl "$1" "$whole" "$3"
    local kept=${whole%"$2"}
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
complete -o nospace -o bashdefault -F _poolctl_whole_words poolctl
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o nospace -o bashdefault -o nosort -F _poolctl_whole_words poolctl
fi
"#;

/// zsh reads a file of `$fpath` when Tab is pressed for the first time, as the body of the function that is to
/// complete: without this, nothing comes of that Tab.
const AT_ONCE: &str = r#"
if [[ "${funcstack[1]}" == _poolctl ]]; then
    _clap_dynamic_completer_poolctl "$@"
fi
"#;

impl CompletionsOptions {
    /// Prints the script that the shell reads.
    ///
    /// # Errors
    /// When stdout takes nothing.
    pub fn run(self, _context: &Context) -> anyhow::Result<ExitReason> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let mut script = Vec::new();
        let shells = Shells::builtins();
        let shell = shells.completer(name).context("the library does not know this shell")?;
        shell.write_registration(VARIABLE, "poolctl", "poolctl", &ourselves()?, &mut script)?;
        text::print(&String::from_utf8_lossy(&script))?;
        text::print(match self.shell {
            Shell::Bash => WHOLE_WORDS,
            Shell::Zsh => AT_ONCE,
            Shell::Fish => "",
        })?;
        Ok(ExitReason::Success)
    }
}

/// How the shell finds this program: by its name, unless it was named by a path.
fn ourselves() -> anyhow::Result<String> {
    let named = env::args().next().filter(|named| named.contains('/'));
    match named {
        Some(named) => {
            let path = env::current_dir().context("cannot tell where we are")?.join(named);
            Ok(path.to_string_lossy().into_owned())
        }
        None => Ok("poolctl".to_owned()),
    }
}

/// Whether a shell asks for a word to be completed.
pub fn is_asked() -> bool {
    env::var_os(VARIABLE).is_some_and(|shell| !shell.is_empty())
}

/// Prints what may follow. `root` makes the command line of all verbs.
///
/// # Errors
/// When the variable names no shell, or stdout takes nothing.
pub fn complete(root: impl Fn() -> Command) -> Result<(), clap::Error> {
    let words: Vec<OsString> = env::args_os().collect();
    let socket = candidates::socket_of(&words);
    let is_option = current_word(&words).as_encoded_bytes().starts_with(b"-");
    CompleteEnv::with_factory(|| candidates::with_candidates(root(), socket.as_deref(), is_option))
        .var(VARIABLE)
        .try_complete(words, env::current_dir().ok().as_deref())?;
    Ok(())
}

/// The word that is completed. bash and zsh say where it is; of fish it is the last one.
fn current_word(words: &[OsString]) -> OsString {
    let line = words.iter().skip_while(|word| *word != "--").skip(1);
    let place = env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|place| place.parse::<usize>().ok());
    let word = match place {
        Some(place) => line.clone().nth(place),
        None => line.last(),
    };
    word.cloned().unwrap_or_default()
}
