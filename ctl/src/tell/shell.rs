//! Commands as a line for a shell: pasted into sh, the line does what the job does. It has no control
//! characters and nothing that cannot be seen, whatever the words hold.

use std::borrow::Cow;
use std::fmt::Write;

use pool_proto::OsText;
use pool_proto::terminal::is_shown;

/// Words that a shell takes for its own where it expects a command.
const RESERVED: [&str; 17] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
    "then", "time", "until", "while",
];

/// The line that runs a command.
pub fn command_line(argv: &[OsText]) -> String {
    let words: Vec<Cow<'_, [u8]>> = argv.iter().map(OsText::to_bytes).collect();

    // $(...) loses line feeds at its end. Within quotes they are not at the end.
    if words.iter().any(|word| word.ends_with(b"\n")) {
        let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&b' ');
        return format!("eval {}", printed(&line));
    }

    let word = |(place, word): (usize, &Cow<'_, [u8]>)| match std::str::from_utf8(word) {
        Ok(word) if place == 0 && RESERVED.contains(&word) => format!("'{word}'"),
        Ok(text) if text.chars().all(is_shown) => {
            String::from_utf8(quoted(word).into_owned()).expect("quotes around text leave it text")
        }
        Ok(_) | Err(_) => printed(word),
    };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// The word in quotes, where it needs them.
fn quoted(word: &[u8]) -> Cow<'_, [u8]> {
    shlex::bytes::Quoter::new().allow_nul(true).quote(word).expect("only a NUL could be refused")
}

/// The bytes as the output of printf(1), since quotes alone cannot say them in plain characters.
fn printed(bytes: &[u8]) -> String {
    let mut format = String::new();
    let octal = |format: &mut String, byte: u8| {
        write!(format, "\\{byte:03o}").expect("a string takes everything");
    };

    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => format += "\\n",
                '\t' => format += "\\t",
                '\\' => format += "\\\\",
                '%' => format += "%%",
                // The end of the quotes, the history of an interactive shell, the beginning of an option.
                '\'' | '!' => octal(&mut format, c as u8),
                '-' if format.is_empty() => octal(&mut format, b'-'),
                _ if is_shown(c) => format.push(c),
                _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(&mut format, byte)),
            }
        }
        chunk.invalid().iter().for_each(|&byte| octal(&mut format, byte));
    }
    format!("\"$(printf '{format}')\"")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    fn line(argv: &[&[u8]]) -> String {
        command_line(&argv.iter().map(|word| OsText::from_bytes(word)).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_is_as_plain_as_it_can_be() {
        let cases: [(&[&[u8]], &str); 6] = [
            (&[b"make", b"-j4", b"all/x.o"], "make -j4 all/x.o"),
            (&[b"sh", b"-c", b"kill -SEGV $$"], "sh -c 'kill -SEGV $$'"),
            (&[b"if", b"", b"if"], "'if' '' if"),
            (&[b"ls", b"caf\xe9"], r#"ls "$(printf 'caf\351')""#),
            (&[b"echo", b"-n\x1b[31m\t"], r#"echo "$(printf '\055n\033[31m\t')""#),
            (&[b"echo", b"a\n"], r#"eval "$(printf 'echo \047a\n\047')""#),
        ];
        for (argv, wanted) in cases {
            assert_eq!(line(argv), wanted);
        }
    }

    #[test]
    fn a_shell_reads_the_words_that_went_in() {
        let all: Vec<u8> = (1..=255).collect();
        let words: [&[u8]; 16] = [
            b"",
            b"a b",
            b"$HOME `x` \"q\" 'q' \\n!!",
            b"it's",
            b"100%\xff%s",
            b"-e\x07",
            b"~",
            b"*",
            b"A=b",
            b"#",
            b"caf\xc3\xa9 caf\xe9",
            "\u{202e}gpj.\u{2066}".as_bytes(),
            b"two\nlines",
            b"end\n\n",
            b"\\",
            &all,
        ];

        let mut argv: Vec<&[u8]> = vec![b"printf", b"[%s]"];
        argv.extend(words);
        let wanted = words.iter().flat_map(|word| [b"[", *word, b"]"].concat()).collect::<Vec<u8>>();
        for (shell, argv) in [("sh", &argv[..]), ("bash", &argv), ("sh", &argv[..12]), ("sh", &argv[..4])] {
            let line = line(argv);
            assert!(line.chars().all(is_shown), "{line}");
            let output =
                Command::new(shell).arg("-c").arg(std::ffi::OsStr::from_bytes(line.as_bytes())).output();
            let output = output.expect("there is a shell").stdout;
            let end = if argv.len() == words.len() + 2 { wanted.len() } else { output.len() };
            assert!(!output.is_empty() && output == wanted[..end], "{line}: {output:?}");
        }
    }
}
