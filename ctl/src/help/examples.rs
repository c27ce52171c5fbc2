//! Two examples and more of each verb, and the topics to read next: for `--help` and for the manual pages. A
//! test holds that each example is a command line that poolctl accepts.

/// What the help of a verb has besides its options.
pub struct VerbHelp {
    /// The words of the verb: `pool add`.
    pub verb: &'static str,
    /// Command lines, each with a remark, which may be empty.
    pub examples: &'static [(&'static str, &'static str)],
    /// Topics of `poolctl help`.
    pub topics: &'static [&'static str],
}

/// What the help of this verb has besides its options.
pub fn of(verb: &str) -> Option<&'static VerbHelp> {
    HELP.iter().find(|help| help.verb == verb)
}

macro_rules! help {
    ($($verb:literal [$($topic:literal)*] { $($line:literal $(# $remark:literal)?;)+ })*) => {
        /// A verb with its examples.
        pub const HELP: &[VerbHelp] = &[
            $(VerbHelp {
                verb: $verb,
                examples: &[$(($line, concat!($($remark)?)),)+],
                topics: &[$($topic),*],
            },)*
        ];
    };
}

help! {
    "submit" ["submitting" "waiting-for" "limits" "arrays" "resources" "callbacks"] {
        "poolctl submit -- make -j4" # "prints the id";
        "poolctl submit --after 11 --on-failure 'notify-send failed' -- make install";
        "poolctl submit --retries 3 --timeout 10m --mem 2G -- ./upload";
        "poolctl submit --resource gpu -- ./train" # "POOL_RESOURCE_GPU tells it which";
        "poolctl submit --array 0-999%8 -- sh -c './simulate --seed $POOL_ARRAY_INDEX'";
    }
    "run" ["exit-codes" "signals" "once"] {
        "poolctl run -- make -j4" # "output and exit code are those of make";
        "poolctl run --json -- make" # "one document: the record, and the end of the output";
        "poolctl run --unique sync --timeout 1h -- rsync -a /srv/ /backup/";
    }
    "map" ["map"] {
        "poolctl map -k -- sha256sum {} ::: COPYING LICENSE";
        "find . -name '*.png' -print0 | poolctl map -0 --bar -- optipng -quiet";
        "seq 100 | poolctl map -j4 --joblog log -- ./simulate --seed {}";
    }
    "call" ["warm-pools"] {
        "poolctl call square square 7" # "pool, method, parameters";
        "poolctl call --async --on-success 'jq .value >> squares' square square 12";
    }
    "schedule" ["schedules"] {
        "poolctl schedule add nightly --cron '0 3 * * *' -- backup --all";
        "poolctl schedule ls";
    }
    "schedule add" ["schedules" "time"] {
        "poolctl schedule add nightly --cron '0 3 * * *' --tz Europe/Berlin -- backup --all";
        "poolctl schedule add refresh --every 10m --overlap allow -- refresh-feeds";
    }
    "schedule ls" ["schedules"] {
        "poolctl schedule ls";
        "poolctl schedule ls --json";
    }
    "schedule show" ["schedules"] {
        "poolctl schedule show nightly";
        "poolctl schedule show nightly --json";
    }
    "schedule pause" ["schedules"] {
        "poolctl schedule pause nightly"; "poolctl schedule pause nightly refresh";
    }
    "schedule resume" ["schedules"] {
        "poolctl schedule resume nightly"; "poolctl schedule resume nightly refresh";
    }
    "schedule run" ["schedules"] {
        "poolctl schedule run nightly" # "prints the id";
        "poolctl schedule run nightly --json";
    }
    "schedule rm" ["schedules"] {
        "poolctl schedule rm nightly";
        "poolctl schedule rm nightly refresh";
    }
    "ls" ["listing"] {
        "poolctl ls --state failed --since 2h";
        "poolctl ls --state failed 17" # "those elements of array 17 that failed";
        "poolctl ls --format '{id} {name}' --label night";
        "poolctl ls --json --limit 20" # "the newest 20, for a program";
    }
    "show" ["listing" "selectors"] {
        "poolctl show last";
        "poolctl show 12 --json";
    }
    "logs" ["listing" "selectors"] {
        "poolctl logs 12" # "what it has written to stdout";
        "poolctl logs -f 12" # "and what it writes until its end";
        "poolctl logs -f -n 5 @nightly" # "several, each line with its id";
        "poolctl logs --since 10m 12" # "what it has written in the last ten minutes";
        "poolctl logs --all-attempts 12" # "the last four attempts, one after the other";
    }
    "stats" ["time"] {
        "poolctl stats" # "the last day, by pool";
        "poolctl stats --since 7d --by name";
        "poolctl stats --since 09:00 --pool gpu --json";
    }
    "plot" ["time"] {
        "poolctl plot -o day.svg" # "the last day; any browser shows it";
        "poolctl plot --since 1h --pool gpu > gpu.svg";
    }
    "wait" ["exit-codes" "selectors"] {
        "poolctl wait 3-9 @nightly" # "until all have ended";
        "poolctl wait --timeout 30s --tail 20 --json 12" # "state and end of the log; 124: not over";
    }
    "why" ["selectors"] {
        "poolctl why all";
        "poolctl why 3-9 --json";
    }
    "deps" ["waiting-for" "selectors"] {
        "poolctl deps 12";
        "poolctl deps 12 --json";
    }
    "top" ["top"] {
        "poolctl top" # "? lists the keys, q quits";
        "poolctl top --socket /run/poold/poold.sock --color never";
    }
    "events" [] {
        "poolctl events --pool gpu" # "as it happens";
        "poolctl events 12 --json" # "until job 12 and its callbacks are over";
        "poolctl events @nightly" # "likewise, of the jobs that have this label now";
        "poolctl events --json --since 6594c1f2a7b3e-17" # "goes on after that event";
    }
    "cancel" ["selectors" "signals"] {
        "poolctl cancel 3-9 12";
        "poolctl cancel 'name:train-*'" # "asks before it ends several";
        "poolctl cancel --yes pool:gpu";
    }
    "retry" ["retry" "selectors"] {
        "poolctl retry 12";
        "poolctl retry failed --pool gpu";
        "poolctl retry @nightly" # "all with this label";
        "poolctl retry --new 12" # "a copy, as a new job";
    }
    "edit" ["edit" "selectors"] {
        "poolctl edit 12 --priority 5 --timeout 10m";
        "poolctl edit 12 --after 7 --unset deadline -- make -j8";
        "poolctl edit 12" # "in $VISUAL or $EDITOR";
    }
    "send" ["input"] {
        "poolctl send 12 yes" # "a line";
        "tar c . | poolctl send 12 --eof" # "and its input ends";
    }
    "attach" ["input"] {
        "poolctl attach 12" # "Ctrl-\\ leaves it, and it goes on";
        "poolctl attach 12 --detach-key ^A";
    }
    "move" ["selectors" "pools"] {
        "poolctl move 12 --pool gpu";
        "poolctl move pool:old -p default" # "all that wait in pool old";
    }
    "hold" ["waiting-for" "selectors"] {
        "poolctl hold 12";
        "poolctl hold 3-9 @nightly";
    }
    "release" ["waiting-for" "selectors"] {
        "poolctl release 12";
        "poolctl release all";
    }
    "pause" ["pools" "selectors"] {
        "poolctl pause 12";
        "poolctl pause 3-9";
    }
    "resume" ["pools" "selectors"] {
        "poolctl resume 12";
        "poolctl resume 3-9";
    }
    "signal" ["signals" "selectors"] {
        "poolctl signal 12 USR1";
        "poolctl signal 3-9 12 HUP";
    }
    "rm" ["selectors"] {
        "poolctl rm 12";
        "poolctl rm state:succeeded" # "asks before it removes several";
    }
    "prune" ["time"] {
        "poolctl prune --older 7d --state succeeded";
        "poolctl prune --label night --older 0s --dry-run" # "prints the ids, removes none";
    }
    "pool" ["pools" "warm-pools"] {
        "poolctl pool ls";
        "poolctl pool set default --workers 8";
    }
    "pool ls" ["pools"] {
        "poolctl pool ls";
        "poolctl pool ls --json";
    }
    "pool add" ["warm-pools"] {
        "poolctl pool add square --workers 2 -- python3 square.py";
        "poolctl pool add model --ready notify --max-rss 8G -- ./serve";
    }
    "pool set" ["pools"] {
        "poolctl pool set default --workers 8";
        "poolctl pool set default --reset" # "as the configuration says";
    }
    "pool pause" ["pools"] {
        "poolctl pool pause gpu" # "running jobs go on";
        "poolctl pool pause --freeze gpu" # "running jobs stand still";
    }
    "pool resume" ["pools"] {
        "poolctl pool resume gpu";
        "poolctl pool resume gpu default";
    }
    "pool drain" ["pools"] {
        "poolctl pool drain gpu" # "until it is empty; submissions exit with 75";
        "poolctl pool drain --timeout 10m gpu" # "124: not empty yet";
    }
    "pool restart" ["warm-pools"] {
        "poolctl pool restart square";
        "poolctl pool restart square --no-start";
    }
    "pool rm" ["warm-pools"] {
        "poolctl pool rm square";
        "poolctl pool rm square --no-start";
    }
    "limit" ["labels"] {
        "poolctl limit set gpu 2";
        "poolctl limit ls";
    }
    "limit set" ["labels"] {
        "poolctl limit set gpu 2";
        "poolctl limit set night 1";
    }
    "limit ls" ["labels"] {
        "poolctl limit ls";
        "poolctl limit ls --json";
    }
    "limit rm" ["labels"] {
        "poolctl limit rm gpu";
        "poolctl limit rm night";
    }
    "callbacks" ["callbacks"] {
        "poolctl callbacks ls --failed";
        "poolctl callbacks retry failed";
    }
    "callbacks ls" ["callbacks"] {
        "poolctl callbacks ls";
        "poolctl callbacks ls --failed --json";
        "poolctl callbacks ls last" # "all callbacks of the newest job";
    }
    "callbacks show" ["callbacks"] {
        "poolctl callbacks show 7";
        "poolctl callbacks show job:12 --json" # "the callbacks of job 12";
    }
    "callbacks retry" ["callbacks"] {
        "poolctl callbacks retry 7";
        "poolctl callbacks retry failed" # "all that poold has given up";
    }
    "callbacks drop" ["callbacks"] {
        "poolctl callbacks drop 3-9";
        "poolctl callbacks drop failed" # "`ls` and `doctor` forget them";
    }
    "doctor" ["trouble" "files"] {
        "poolctl doctor";
        "poolctl doctor --json --state-dir /var/lib/poold";
    }
    "config" ["files"] {
        "poolctl config init > ~/.config/poold/config.toml";
        "poolctl config show" # "what is in force, and where each setting comes from";
    }
    "config init" ["files"] {
        "poolctl config init";
        "poolctl config init > ~/.config/poold/config.toml";
    }
    "config check" ["files"] {
        "poolctl config check";
        "poolctl config check /etc/poold/config.toml";
    }
    "config show" ["files"] {
        "poolctl config show";
        "poolctl config show --json";
    }
    "ping" ["exit-codes"] {
        "poolctl ping";
        "poolctl --no-start ping --timeout 1s && echo it is there";
    }
    "backup" ["files"] {
        "poolctl backup poold-monday.db";
        "poolctl backup /backup/poold.db --json";
    }
    "shutdown" ["signals"] {
        "poolctl shutdown" # "after all that can run";
        "poolctl shutdown --now" # "the queue stays for the next start";
    }
    "help" [] {
        "poolctl help submit" # "a verb";
        "poolctl help exit-codes" # "a topic";
    }
    "completions" [] {
        "poolctl completions bash > ~/.local/share/bash-completion/completions/poolctl";
        "poolctl completions fish > ~/.config/fish/completions/poolctl.fish";
        "poolctl completions zsh > ~/.zfunc/_poolctl" # "a directory of $fpath";
    }
    "man" [] {
        "poolctl man submit | man -l -";
        "poolctl man --dir ~/.local/share/man" # "writes all pages";
    }
    "schema" [] {
        "poolctl schema > poolctl.schema.json";
        "poolctl schema ls" # "of one verb";
    }
}
