//! The files of jobs below the state directory: output of attempts, and standard inputs that clients have
//! spooled; and large values of calls.
//!
//! * [`layout`]: where each file is, and how a file below the state directory is opened;
//! * [`log`]: the log of a daemon in the background;
//! * [`output`]: the files that an attempt writes;
//! * [`slot_output`]: the same files before they have names;
//! * [`spool`]: standard inputs on their way in;
//! * [`values`]: parameters and answers of calls, where they are large;
//! * [`remover`] and [`measurer`]: threads that remove files, and add up what they take, so that the supervisor's
//!   loop waits for no disk.

pub mod layout;
pub mod log;
pub mod measurer;
pub mod output;
pub mod remover;
pub mod slot_output;
pub mod spool;
pub mod timekeeper;
pub mod values;
