//! Connection parameters in libpq's grammar.
/// placeholder
#[derive(Debug, Clone)]
pub struct Config;
