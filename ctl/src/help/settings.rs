//! The settings of poold, as `ctl/docs/poold.toml` documents them: the file that `poolctl config init`
//! prints, and the one source of poold.toml(5). poold's own tests hold it to poold's parser.

use clap_mangen::roff::{Roff, bold, roman};

use super::page::roff::{add_name, first_line};

/// The commented file, in which every setting has its default.
pub const FILE: &str = include_str!("../../docs/poold.toml");

/// A part of the file, between empty lines.
enum Part<'a> {
    /// Sentences.
    Text(Vec<&'a str>),
    /// A table, with what is said of it.
    Table(&'a str, Vec<&'a str>),
    /// Settings, with what is said of them.
    Settings(Vec<&'a str>, Vec<&'a str>),
}

/// The manual page poold.toml(5).
pub fn page() -> String {
    let mut roff = Roff::new();
    add_name(&mut roff, "poold.toml", "the settings of poold");
    roff.control("SH", ["DESCRIPTION"]);
    for (index, part) in parts().into_iter().enumerate() {
        match part {
            Part::Text(lines) => {
                if index > 0 {
                    roff.control("PP", []);
                }
                roff.text([roman(lines.join(" "))]);
            }
            Part::Table(name, lines) => {
                roff.control("SH", [name.to_uppercase().as_str()]);
                roff.text([roman(lines.join(" "))]);
            }
            Part::Settings(settings, lines) => {
                roff.control("TP", []);
                for (index, setting) in settings.iter().enumerate() {
                    if index > 0 {
                        roff.control("TQ", []);
                    }
                    roff.text([bold(*setting)]);
                }
                roff.text([roman(lines.join(" "))]);
            }
        }
    }
    roff.control("SH", ["FILES"]);
    roff.text([roman(
        "/etc/poold/config.toml of root, $XDG_CONFIG_HOME/poold/config.toml or ~/.config/poold/config.toml of \
         another user; `poold --config FILE` names another one.",
    )]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("poold(8)"),
        roman(", "),
        bold("poolctl-config(1)"),
        roman(", "),
        bold("poolctl-time(7)"),
    ]);
    first_line("poold.toml", "5") + &roff.to_roff()
}

fn parts() -> Vec<Part<'static>> {
    let lines: Vec<&str> = FILE.lines().collect();
    lines
        .split(|line| line.is_empty() || *line == "#")
        .filter_map(|paragraph| {
            let (said, set): (Vec<&str>, Vec<&str>) =
                paragraph.iter().copied().partition(|line| line.starts_with("# "));
            let said: Vec<&str> = said.iter().map(|line| line[2..].trim()).collect();
            let set: Vec<&str> = set.iter().map(|line| line.trim_start_matches('#')).collect();
            match set.first() {
                None if said.is_empty() => None,
                None => Some(Part::Text(said)),
                Some(table) if table.starts_with('[') => Some(Part::Table(table, said)),
                Some(_) => Some(Part::Settings(set, said)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_on_the_page() {
        let page = page();
        for part in parts() {
            let Part::Settings(settings, said) = part else { continue };
            assert!(!said.is_empty(), "{settings:?} is not explained");
            for setting in settings {
                let (name, value) = setting.split_once(" = ").unwrap_or_else(|| panic!("{setting}"));
                assert!(page.contains(&format!("\\fB{name} = ")), "{name} = {value}");
            }
        }
        assert!(page.contains(".SH [HISTORY]"), "{page}");
    }
}
