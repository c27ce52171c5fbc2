//! What jobs wait for besides a slot, as far as the core knows of it: a time, and what they are tied to;
//! and their deadlines. A job that waits for another one of its unique name is not here: the engine passes
//! the turn on with the end of that one, and [`ending`](super::jobs::ending) counts it.

pub mod deadlines;
pub mod dependents;
pub mod due;
pub mod hold;
pub mod ties;
