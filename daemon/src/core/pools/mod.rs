//! Pools: their slots, what is offered to them, their programs, their resources, whether they are paused; and
//! the lane of the callbacks, which is like a pool.

pub mod callbacks;
pub mod draining;
pub mod gather;
pub mod lane;
pub mod limits;
pub mod offers;
pub mod pause;
pub mod pool;
pub mod slots;
pub mod stall;
pub mod stock;
pub mod succession;
