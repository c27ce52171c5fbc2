//! A set in order of which there are very many, most of them with one member: that one takes no memory beside
//! the set's own.

use std::collections::BTreeSet;

/// See the module's description.
#[derive(Debug, Default)]
pub enum Few<T> {
    #[default]
    None,
    One(T),
    Many(BTreeSet<T>),
}

impl<T: Ord + Copy> Few<T> {
    pub fn insert(&mut self, member: T) {
        match self {
            Self::None => *self = Self::One(member),
            Self::One(other) if *other == member => {}
            Self::One(other) => *self = Self::Many([*other, member].into()),
            Self::Many(members) => _ = members.insert(member),
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        match self {
            Self::One(other) if other == member => {
                *self = Self::None;
                true
            }
            Self::None | Self::One(_) => false,
            Self::Many(members) => {
                let was_there = members.remove(member);
                match members.len() {
                    0 => *self = Self::None,
                    1 => *self = members.first().copied().map_or(Self::None, Self::One),
                    _ => {}
                }
                was_there
            }
        }
    }

    pub fn contains(&self, member: &T) -> bool {
        match self {
            Self::None => false,
            Self::One(other) => other == member,
            Self::Many(members) => members.contains(member),
        }
    }

    pub fn first(&self) -> Option<&T> {
        match self {
            Self::None => None,
            Self::One(member) => Some(member),
            Self::Many(members) => members.first(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..4u8), 0..40)) {
            let (mut few, mut set) = (Few::default(), BTreeSet::new());
            for (is_inserted, member) in steps {
                if is_inserted {
                    few.insert(member);
                    set.insert(member);
                } else {
                    prop_assert_eq!(few.remove(&member), set.remove(&member));
                }
                prop_assert_eq!((few.first(), few.is_empty()), (set.first(), set.is_empty()));
                prop_assert!((0..4).all(|member| few.contains(&member) == set.contains(&member)));
                prop_assert_eq!(matches!(few, Few::Many(_)), set.len() > 1);
            }
        }
    }
}
