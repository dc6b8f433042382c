//! Tests of the hub without a server.
