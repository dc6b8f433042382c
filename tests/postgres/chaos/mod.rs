//! Sessions are killed, servers die, networks fail: nothing is lost in silence, twice or out of order.

mod bounds;
mod disconnects;
mod half_open;
mod handover;
mod hook;
mod restore;
mod sequence;
mod servers;
mod shutdown;
mod wishes;
