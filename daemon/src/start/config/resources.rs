//! The resources of pools: `[pool.x.resources]`, each a list of items.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pool_proto::nouns::{MAX_LABEL, MAX_RESOURCE, is_label, is_resource};
use serde::{Deserialize, Deserializer};

use crate::job::{Items, items_variable};

/// A pool cannot have more resources, and none of them more items.
const MAX_RESOURCES: usize = 64;
const MAX_ITEMS: usize = 4096;

/// Resources as the configuration has them.
type Named = BTreeMap<String, Vec<String>>;

/// An item is text, or a number, such as that of a device.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an item is text, or a number")]
enum ItemValue {
    Text(String),
    Number(u64),
}

pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
    let item = |value: ItemValue| match value {
        ItemValue::Text(text) => text,
        ItemValue::Number(number) => number.to_string(),
    };
    let resources = BTreeMap::<String, Vec<ItemValue>>::deserialize(deserializer)?.into_iter();
    Ok(resources.map(|(name, items)| (name, items.into_iter().map(item).collect())).collect())
}

/// The same, as others have them.
pub fn items(resources: &Named) -> Items {
    let items = |items: &Vec<String>| items.iter().map(|item| Arc::from(item.as_str())).collect();
    resources.iter().map(|(name, all)| (Arc::from(name.as_str()), items(all))).collect()
}

/// What is wrong with the resources of a pool, if anything, as a sentence.
pub fn fault(resources: &Named) -> Option<String> {
    if resources.len() > MAX_RESOURCES {
        return Some(format!("{} resources are too many: at most {MAX_RESOURCES} a pool", resources.len()));
    }
    let mut variables = BTreeMap::new();
    let mut shared = |name| Some((variables.insert(items_variable(name), name)?, name));
    let of_name = resources.keys().find_map(|name| match (resource_fault(name), shared(name)) {
        (Some(why), _) => Some(why),
        (None, Some((other, name))) => {
            let variable = items_variable(name);
            Some(format!("{other:?} and {name:?} have one variable, {variable}: rename one of them"))
        }
        (None, None) => None,
    });
    of_name.or_else(|| resources.iter().find_map(|(name, items)| fault_of_items(name, items)))
}

fn fault_of_items(name: &str, items: &[String]) -> Option<String> {
    if items.len() > MAX_ITEMS {
        return Some(format!("{name:?} has {} items: at most {MAX_ITEMS}", items.len()));
    }
    if let Some(item) = items.iter().find(|item| !is_label(item)) {
        return Some(format!(
            "{item:?} cannot be an item of {name:?}: use letters, digits, '-', '_', '.', ':', '/', '@' and '+', \
             {MAX_LABEL} at most"
        ));
    }
    let mut seen = BTreeSet::new();
    let twice = items.iter().find(|item| !seen.insert(*item))?;
    Some(format!("{name:?} has the item {twice:?} twice: name each item once"))
}

/// Why a resource of a pool cannot be named so, as a sentence. None if it can.
pub fn resource_fault(name: &str) -> Option<String> {
    let rule = || {
        format!(
            "{name:?} cannot be a resource: use letters, digits, '-' and '_', a letter first, \
             {MAX_RESOURCE} at most"
        )
    };
    (!is_resource(name)).then(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(all: &[(&str, &[&str])]) -> Named {
        let items = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        all.iter().map(|&(name, all)| (name.to_owned(), items(all))).collect()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good: &[(&str, &[&str])] =
            &[("gpu", &["0", "GPU-8f", "0000:65:00.0"]), ("tape", &[]), ("a-b", &["0"])];
        assert_eq!(fault(&named(good)), None);
        type Case<'c> = (&'c [(&'c str, &'c [&'c str])], &'c str);
        let cases: [Case<'_>; 6] = [
            (&[("", &["0"])], "cannot be a resource"),
            (&[("2gpu", &["0"])], "a letter first"),
            (&[("gpu", &["0", "a,b"])], "\"a,b\" cannot be an item of \"gpu\""),
            (&[("gpu", &[""])], "\"\" cannot be an item"),
            (&[("gpu", &["0", "1", "0"])], "\"gpu\" has the item \"0\" twice"),
            (&[("a-b", &["0"]), ("a_B", &["0"])], "have one variable, POOL_RESOURCE_A_B"),
        ];
        for (resources, wanted) in cases {
            let said = fault(&named(resources)).unwrap_or_default();
            assert!(said.contains(wanted), "{resources:?}: {said}");
        }
    }
}
