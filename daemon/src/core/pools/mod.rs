//! Pools: their slots, what is offered to them, their programs, whether they are paused; and the lane of the
//! callbacks, which is like a pool.

pub mod callbacks;
pub mod lane;
pub mod limits;
pub mod offers;
pub mod pause;
pub mod pool;
pub mod slots;
pub mod stall;
pub mod succession;
