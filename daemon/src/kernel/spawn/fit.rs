//! Variables that execve(2) would refuse, cut to what it takes: a callback is delivered whatever the environment
//! of its job holds.

use std::collections::BTreeSet;
use std::ffi::CString;

use nix::unistd::{SysconfVar, sysconf};

/// The names of the variables that were cut or left out, between spaces.
const CUT_VARIABLE: &str = "POOL_TRUNCATED=";

/// No string that execve(2) takes is longer, its NUL included: MAX_ARG_STRLEN of 32 pages.
pub const MAX_STRING: usize = 128 * 1024;

/// So long the list of names may be, in bytes.
const MAX_NAMES: usize = 4096;

/// Never left out; nor are poold's own.
const KEPT: [&[u8]; 6] = [b"PATH", b"HOME", b"USER", b"LOGNAME", b"SHELL", b"LANG"];

/// The bytes that arguments and variables may take together: half of what execve(2) takes, so that a command can
/// start others.
pub fn room() -> usize {
    const MOST: usize = 6 << 20;
    let limit = sysconf(SysconfVar::ARG_MAX).ok().flatten().and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(MAX_STRING).min(MOST) / 2
}

/// The same variables, each as `NAME=value`, cut to `room`; the largest are left out first. None if they fit as
/// they are.
pub fn fit(variables: &[&CString], room: usize) -> Option<Vec<CString>> {
    let mut names = BTreeSet::new();
    let mut kept: Vec<&[u8]> = Vec::with_capacity(variables.len());
    for variable in variables {
        let bytes = variable.as_bytes();
        if bytes.len() >= MAX_STRING {
            names.insert(name_of(bytes));
        }
        kept.push(cut(bytes, MAX_STRING - 1));
    }

    // With its NUL and the pointer to it.
    let size = |bytes: &[u8]| bytes.len() + 1 + size_of::<usize>();
    let mut total: usize = kept.iter().map(|bytes| size(bytes)).sum();
    if total > room {
        kept.sort_by_key(|bytes| (!is_kept(bytes), bytes.len()));
        while total > room
            && let Some(last) = kept.pop_if(|last| !is_kept(last))
        {
            total -= size(last);
            names.insert(name_of(last));
        }
    }

    if names.is_empty() {
        return None;
    }
    let names: Vec<&[u8]> = names.into_iter().collect();
    let told = [CUT_VARIABLE.as_bytes(), cut(&names.join(&b' '), MAX_NAMES)].concat();
    let all = kept.into_iter().chain([told.as_slice()]);
    Some(all.filter_map(|bytes| CString::new(bytes).ok()).collect())
}

fn name_of(variable: &[u8]) -> &[u8] {
    variable.split(|&byte| byte == b'=').next().unwrap_or_default()
}

fn is_kept(variable: &[u8]) -> bool {
    let name = name_of(variable);
    name.starts_with(b"POOL_") || KEPT.contains(&name)
}

/// At most so many bytes, and no part of a character at the end.
fn cut(bytes: &[u8], longest: usize) -> &[u8] {
    if bytes.len() <= longest {
        return bytes;
    }
    let is_inside = |&end: &usize| bytes[end] & 0xc0 == 0x80;
    let end = (longest - 3..=longest).rev().find(|end| !is_inside(end)).unwrap_or(longest);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(variables: &[String], room: usize) -> Option<Vec<String>> {
        let all: Vec<CString> = variables.iter().map(|text| CString::new(text.as_str()).unwrap()).collect();
        let fitted = fit(&all.iter().collect::<Vec<_>>(), room)?;
        Some(fitted.into_iter().map(|text| text.into_string().unwrap()).collect())
    }

    #[test]
    fn what_fits_stays_and_what_does_not_is_cut_and_named() {
        let small = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        assert_eq!(fitted(&small, 1000), None);

        let long = [small[0].clone(), format!("B={}", "\u{e9}".repeat(MAX_STRING))];
        let said = fitted(&long, usize::MAX).unwrap();
        assert_eq!((said[1].len(), said[2].as_str()), (MAX_STRING - 2, "POOL_TRUNCATED=B"));

        let many: Vec<String> =
            (0..100).map(|number| format!("V{number:03}={}", "x".repeat(number))).collect();
        let said = fitted(&[&many[..], &["PATH=/a/long/path".to_owned()]].concat(), 500).unwrap();
        assert!(said.contains(&"PATH=/a/long/path".to_owned()) && said.contains(&many[0]), "{said:?}");
        assert!(!said.contains(&many[99]) && said.last().unwrap().ends_with(" V099"), "{said:?}");
    }
}
