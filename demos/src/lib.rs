//! The parts of the program `live_page`. The other programs of this package have one file each, in `src/bin`.

pub mod live_page;
