//! What the user may have meant, where poold knows no such name.

use pool_proto::methods::Pools;
use pool_proto::{ClientError, Refusal};

use crate::link::connect::Link;

/// The error, and the nearest name where that is one that poold does not know.
pub fn explain(error: anyhow::Error, link: &Link) -> anyhow::Error {
    let Some(ClientError::Refused(Refusal::NoSuchPool { pool })) = error.downcast_ref() else { return error };
    let told = link.open().map_err(ClientError::from).and_then(|mut client| client.request(&Pools {}));
    let Ok(pools) = told else { return error };
    let names: Vec<&str> = pools.pools.iter().map(|pool| pool.name.as_str()).collect();
    match near(pool, &names) {
        Some(near) => anyhow::anyhow!("{error:#}; did you mean {near}?"),
        None => error,
    }
}

/// The nearest of these names, if it is near.
pub fn near<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = names.iter().copied().min_by_key(distance)?;
    (distance(&nearest) <= (name.chars().count() / 3).max(1)).then_some(nearest)
}
