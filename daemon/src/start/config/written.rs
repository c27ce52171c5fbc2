//! What the text of a configuration sets, and where: for faults, which name the line, and for clients that
//! ask what is in force and where it comes from.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use pool_proto::nouns::{Setting, SettingSource};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, DEFAULT_POOL, cpus};

/// The documented settings, each with its default: the one place where they are told to people. A test holds
/// them to [`Config::default`].
const DOCUMENTED: &str = include_str!("../../../../ctl/docs/poold.toml");

/// What marks a documented setting that has no default.
const NO_DEFAULT: &str = "Without it";

/// A setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its value, as the file has it.
    value: String,
    /// Both count from 1.
    line: usize,
    column: usize,
}

/// The text of a file. What it sets, and where, is read off it when somebody asks: there may be a limit for
/// each of ten thousand labels.
#[derive(Debug, Clone, Default)]
pub struct Written {
    text: Arc<str>,
    /// Settings of an earlier text that are in force instead; none where that had none.
    kept: BTreeMap<String, Option<Place>>,
}

/// Where a setting is written is no part of what the file says: the same settings in another order are the
/// same.
impl PartialEq for Written {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Written {
    pub fn of(text: &str) -> Self {
        Self { text: text.into(), kept: BTreeMap::new() }
    }

    /// The settings by their whole names: `pool.build.timeout`. None of a text that is no TOML.
    fn places(&self) -> BTreeMap<String, Place> {
        let mut places = Places { text: &self.text, line_starts: vec![0], found: BTreeMap::new() };
        places.line_starts.extend(self.text.match_indices('\n').map(|(at, _)| at + 1));
        if let Ok(table) = DeTable::parse(&self.text) {
            places.add("", table.get_ref());
        }

        let mut found = places.found;
        for (name, kept) in &self.kept {
            match kept {
                Some(place) => _ = found.insert(name.clone(), place.clone()),
                None => _ = found.remove(name),
            }
        }
        found
    }

    /// A fault of the setting with this name, or of a table: with its line and column, where the text has it.
    pub fn fault(&self, name: &str, why: &str) -> String {
        let places = self.places();
        let mut name = name;
        loop {
            if let Some(Place { line, column, .. }) = places.get(name) {
                return format!("line {line}, column {column}: {why}");
            }
            match name.rsplit_once('.') {
                Some((table, _)) => name = table,
                None => return why.to_owned(),
            }
        }
    }

    /// Takes over settings of another text.
    pub fn keep(&mut self, other: &Self, names: &[&str]) {
        let places = other.places();
        self.kept.extend(names.iter().map(|&name| (name.to_owned(), places.get(name).cloned())));
    }
}

/// The settings of a text, as they are found.
struct Places<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    found: BTreeMap<String, Place>,
}

impl Places<'_> {
    fn add(&mut self, within: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{within}{}", quoted(key.get_ref()));
            let at = key.span().start;
            match value.get_ref() {
                // A table in braces is a value: `rlimit`, `env`.
                DeValue::Table(inner) if !self.text[value.span()].starts_with('{') => {
                    self.found.insert(name.clone(), self.place(at, String::new()));
                    self.add(&format!("{name}."), inner);
                }
                _ => {
                    let value = self.text[Spanned::span(value)].to_owned();
                    self.found.insert(name, self.place(at, value));
                }
            }
        }
    }

    fn place(&self, at: usize, value: String) -> Place {
        let line = self.line_starts.partition_point(|&start| start <= at);
        let line_start = self.line_starts[line - 1];
        Place { value, line, column: self.text[line_start..at].chars().count() + 1 }
    }
}

impl Config {
    /// All settings that are in force, with where each comes from. `given`: those of poold's command line.
    /// `limits`: the limits of labels that were set at run time.
    pub fn in_force(&self, given: &[(&str, String)], limits: &[(String, u32)]) -> Vec<Setting> {
        let setting = |name: String, value: String, source| Setting { name, value, source, line: None };
        let mut settings: BTreeMap<String, Setting> = defaults()
            .into_iter()
            .map(|(name, value)| (name.clone(), setting(name, value, SettingSource::Default)))
            .collect();

        let written = self.written.places().into_iter().filter(|(_, place)| !place.value.is_empty());
        settings.extend(written.map(|(name, Place { value, line, .. })| {
            let line = u32::try_from(line).ok();
            (name.clone(), Setting { name, value, source: SettingSource::File, line })
        }));

        for (name, value) in given {
            if *name == "workers" {
                settings.remove("pool.default.workers");
            }
            settings.insert(
                (*name).to_owned(),
                setting((*name).to_owned(), value.clone(), SettingSource::Option),
            );
        }
        for (pool, workers) in &self.set_workers {
            let name = match pool.as_str() {
                DEFAULT_POOL if !settings.contains_key("pool.default.workers") => "workers".to_owned(),
                _ => format!("pool.{}.workers", quoted(pool)),
            };
            settings.insert(name.clone(), setting(name, workers.to_string(), SettingSource::Set));
        }
        for (label, limit) in limits {
            let name = format!("limit.{}.running", quoted(label));
            settings.insert(name.clone(), setting(name, limit.to_string(), SettingSource::Set));
        }
        if !settings.contains_key("pool.default.workers")
            && let Entry::Vacant(workers) = settings.entry("workers".to_owned())
        {
            workers.insert(setting("workers".to_owned(), cpus().to_string(), SettingSource::Default));
        }
        settings.into_values().collect()
    }

    /// What takes effect only at a start stays as it is.
    pub fn keep_until_next_start(&mut self, old: &Self) {
        self.durability = old.durability;
        self.log = old.log;
        self.cgroup = old.cgroup;
        self.written.keep(&old.written, &["durability", "log", "cgroup"]);
    }
}

/// A name as a key of TOML: some need quotes.
pub fn quoted(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { name.to_owned() } else { format!("{name:?}") }
}

/// The settings that have defaults, with these.
fn defaults() -> Vec<(String, String)> {
    documented()
        .into_iter()
        .filter(|setting| !setting.is_example)
        .map(|setting| (format!("{}{}", setting.table, setting.name), setting.value))
        .collect()
}

/// A setting as the documentation has it.
struct Documented {
    /// With a dot behind it, unless it is the top.
    table: String,
    name: String,
    value: String,
    /// It has no default.
    is_example: bool,
}

fn documented() -> Vec<Documented> {
    let mut settings = Vec::new();
    let mut table = String::new();
    for paragraph in DOCUMENTED.split("\n\n") {
        let said: Vec<&str> = paragraph.lines().filter(|line| line.starts_with("# ")).collect();
        let said = said.join(" ").replace("# ", "");
        for line in paragraph.lines().filter(|line| !line.starts_with("# ") && *line != "#") {
            let line = line.trim_start_matches('#');
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                table = format!("{name}.");
            } else if let Some((name, value)) = line.split_once(" = ") {
                let is_example = said.contains(NO_DEFAULT);
                let (name, value) = (name.to_owned(), value.to_owned());
                settings.push(Documented { table: table.clone(), name, value, is_example });
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documented_file_changes_nothing() {
        let config = Config::parse(DOCUMENTED).unwrap();
        assert_eq!(Config { written: Written::default(), ..config }, Config::default());
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let mut text = String::new();
        let mut names = 0;
        for (name, value) in defaults() {
            text += &format!("{name} = {value}\n");
            names += 1;
        }
        assert!(names > 15, "{text}");
        let config = Config::parse(&text).unwrap();
        assert_eq!(Config { written: Written::default(), ..config }, Config::default(), "{text}");
    }

    #[test]
    fn every_example_is_accepted() {
        for setting in documented() {
            // What a table needs besides the setting.
            let needed = match setting.table.as_str() {
                "pool.build." | "pool.square." if setting.name != "workers" => "workers = 2\n",
                "schedule.nightly." if setting.name == "command" => "every = 60\n",
                "schedule.nightly." if ["cron", "every"].contains(&setting.name.as_str()) => {
                    "command = [\"a\"]\n"
                }
                "schedule.nightly." => "command = [\"a\"]\ncron = \"@daily\"\n",
                _ => "",
            };
            let program = match setting.table.as_str() {
                "pool.square." if setting.name != "command" => "command = [\"a\"]\n",
                _ => "",
            };
            let head = setting.table.strip_suffix('.').map_or(String::new(), |table| format!("[{table}]\n"));
            let text = format!("{head}{needed}{program}{} = {}\n", setting.name, setting.value);
            if let Err(error) = Config::parse(&text) {
                panic!("{text}{error:#}");
            }
        }
    }

    /// serde lists the members of a table where it does not know one.
    fn members_of(table: &str) -> BTreeSet<String> {
        let text =
            if table.is_empty() { "nothing = 1".to_owned() } else { format!("[{table}]\nnothing = 1\n") };
        let said = Config::parse(&text).unwrap_err().to_string();
        let listed = said.split("expected").nth(1).unwrap_or_else(|| panic!("{said}"));
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_setting_is_documented() {
        for (table, documented_at) in [
            ("", &[""][..]),
            ("callbacks", &["callbacks."]),
            ("history", &["history."]),
            ("limit.gpu", &["limit.gpu."]),
            ("pool.x", &["pool.build.", "pool.square."]),
            ("schedule.x", &["schedule.nightly."]),
        ] {
            let documented: BTreeSet<String> = documented()
                .into_iter()
                .filter(|setting| documented_at.contains(&setting.table.as_str()))
                .map(|setting| setting.name)
                .collect();
            let tables = ["callbacks", "history", "limit", "pool", "schedule"];
            let members: BTreeSet<String> = members_of(table)
                .into_iter()
                .filter(|name| !table.is_empty() || !tables.contains(&name.as_str()))
                .collect();
            assert_eq!(documented, members, "[{table}] of ctl/docs/poold.toml");
        }
    }

    #[test]
    fn a_fault_names_its_line() {
        let fault = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert!(fault("retries = 1\nworkes = 2\n").contains("line 2, column 1"), "{}", fault("workes = 2\n"));
        let text = "retries = 1\n\n[pool.build]\nworkers = 2\n  cwd = \"/\"\n";
        assert!(
            fault(text).starts_with("line 5, column 3: [pool.build] cwd: only a warm pool"),
            "{}",
            fault(text)
        );
        let text = "[pool.build]\ntimeout = 1\n";
        assert!(fault(text).starts_with("line 1, column 7: [pool.build] lacks `workers`"), "{}", fault(text));
    }

    #[test]
    fn what_is_in_force_has_its_source() {
        let text = "kill_after = \"5s\"\n\n[pool.build]\nworkers = 2\nrlimit = { core = 0 }\n";
        let mut config = Config::parse(text).unwrap();
        config.set_workers.insert("build".to_owned(), std::num::NonZeroU32::new(7).unwrap());
        let given = [("workers", "3".to_owned())];
        let settings = config.in_force(&given, &[("gpu:0".to_owned(), 1)]);
        let told = |name: &str| {
            let setting = settings.iter().find(|setting| setting.name == name);
            let setting = setting.unwrap_or_else(|| panic!("{name}: {settings:#?}"));
            (setting.value.as_str(), setting.source, setting.line)
        };
        assert_eq!(told("kill_after"), ("\"5s\"", SettingSource::File, Some(1)));
        assert_eq!(told("stop_grace"), ("\"10s\"", SettingSource::Default, None));
        assert_eq!(told("workers"), ("3", SettingSource::Option, None));
        assert_eq!(told("pool.build.workers"), ("7", SettingSource::Set, None));
        assert_eq!(told("pool.build.rlimit"), ("{ core = 0 }", SettingSource::File, Some(5)));
        assert_eq!(told("limit.\"gpu:0\".running"), ("1", SettingSource::Set, None));
        assert_eq!(told("history.max_age"), ("\"30d\"", SettingSource::Default, None));

        let mut reread = Config::parse("durability = \"power\"\nlog = \"info\"\n").unwrap();
        reread.keep_until_next_start(&Config::parse("\ndurability = \"crash\"\n").unwrap());
        let settings = reread.in_force(&[], &[]);
        let told = |name: &str| settings.iter().find(|setting| setting.name == name).unwrap();
        let durability = told("durability");
        assert_eq!(
            (durability.value.as_str(), durability.line),
            ("\"crash\"", Some(2)),
            "as it was at the start"
        );
        assert_eq!(told("log").source, SettingSource::Default);
    }
}
