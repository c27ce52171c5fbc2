//! The daemon without an outside: its two machines, driven by the function that drives them in the daemon,
//! over a world that does what a test says.
//!
//! [`world`] is everything around them, simulated: a durable backing in memory that is slow, full or gone as
//! told ([`delayed`]), [`workers`] and [`clients`]. [`scenarios`], [`deaths`], [`deadlines`], [`queue`],
//! [`ties`], [`ahead`], [`keys`], [`labels`], [`arrays`], [`slots`], [`resources`], [`turns`], [`calls`],
//! [`callbacks`], [`pools`], [`pauses`], [`schedules`], [`holds`], [`reruns`], [`removals`], [`moves`],
//! [`edits`] and [`requests`] are stories told through it; [`property`] lets chance tell them, and
//! [`simulation`] goes on with that for as long as one likes, from a seed. [`invariants`] has what is checked
//! after each step.

mod ahead;
mod arrays;
mod callbacks;
mod calls;
mod clients;
mod deadlines;
mod deaths;
mod delayed;
mod edits;
mod freezing;
mod holds;
mod inputs;
mod invariants;
mod keys;
mod labels;
mod moves;
mod pauses;
mod pools;
mod property;
mod queue;
mod removals;
mod requests;
mod reruns;
mod resources;
mod scenarios;
mod schedules;
mod simulation;
mod slots;
mod specs;
mod ties;
mod turns;
mod workers;
mod world;
mod written;
