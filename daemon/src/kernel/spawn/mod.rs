//! Starting processes with the semantics of vfork(2): the child borrows its parent's memory until it executes
//! a program, so that nothing is copied, however large the parent is, and the child can tell of its failure
//! by writing it down.
//!
//! * [`job`]: a worker starts the first process of an attempt; [`fit`]: variables that are too big to be
//!   passed; [`limits`]: those of the submitter;
//! * [`own`]: the supervisor starts this program as a worker, in a [`namespace`] of its own where that is
//!   asked for;
//! * [`clone`]: clone3(2) into a control group; [`stack`]: what the child runs on.

mod clone;
mod fit;
mod job;
mod limits;
mod namespace;
mod own;
mod stack;

pub use clone::is_usable;
pub use job::{EnvironmentBlock, Launch, SpawnGroup, Spawner};
pub use namespace::die_with_parent;
pub use own::OwnProgram;
