//! What jobs wait for besides a slot, as far as the core knows of it: a time, and what they are tied to;
//! and their deadlines.

pub mod deadlines;
pub mod due;
pub mod ties;
