//! What the daemon wants of a run: desired state, commands and operators' orders. Merges, addresses, and waits for every
//! rank's result. Pure: the bus delivers, the clock is an argument.

mod desired;
mod orders;
mod while_running;

pub use desired::{Desired, FromHooks};
pub use orders::{OrderUpdate, Steering};
pub use while_running::Switch;
