//! Lanes without a server.
