//! The part of libpq that a listener needs.

#![allow(unsafe_code)] // calls of libpq

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::outcome::{Failure, Outcome};

#[repr(C)]
struct PGconn {
    opaque: [u8; 0],
}

#[repr(C)]
struct PGresult {
    opaque: [u8; 0],
}

/// `struct pgNotify` of `libpq-fe.h`.
#[repr(C)]
struct PGnotify {
    relname: *mut c_char,
    be_pid: c_int,
    extra: *mut c_char,
    next: *mut PGnotify,
}

const CONNECTION_OK: c_int = 0;
const PGRES_COMMAND_OK: c_int = 1;

unsafe extern "C" {
    fn PQconnectdb(conninfo: *const c_char) -> *mut PGconn;
    fn PQstatus(connection: *const PGconn) -> c_int;
    fn PQerrorMessage(connection: *const PGconn) -> *const c_char;
    fn PQexec(connection: *mut PGconn, query: *const c_char) -> *mut PGresult;
    fn PQresultStatus(result: *const PGresult) -> c_int;
    fn PQclear(result: *mut PGresult);
    fn PQsocket(connection: *const PGconn) -> c_int;
    fn PQconsumeInput(connection: *mut PGconn) -> c_int;
    fn PQnotifies(connection: *mut PGconn) -> *mut PGnotify;
    fn PQfreemem(pointer: *mut c_void);
    fn PQfinish(connection: *mut PGconn);
    fn PQlibVersion() -> c_int;
}

/// Returns the version of libpq that this process uses, as `15.18`.
pub(crate) fn version() -> String {
    // SAFETY: takes nothing and returns a number.
    let version = unsafe { PQlibVersion() };
    format!("{}.{}", version / 10_000, version % 10_000)
}

/// A connection, closed when dropped.
#[derive(Debug)]
pub(crate) struct Connection(NonNull<PGconn>);

impl Connection {
    pub(crate) fn connect(conninfo: &str) -> Outcome<Self> {
        let conninfo = CString::new(conninfo)?;
        // SAFETY: a NUL-terminated string that outlives the call.
        let raw = unsafe { PQconnectdb(conninfo.as_ptr()) };
        let connection = Self(NonNull::new(raw).ok_or("libpq has no memory for a connection")?);
        // SAFETY: the connection lives until `connection` is dropped.
        if unsafe { PQstatus(connection.0.as_ptr()) } != CONNECTION_OK {
            return Err(connection.error());
        }
        Ok(connection)
    }

    /// Runs commands that return no rows.
    pub(crate) fn execute(&mut self, sql: &str) -> Outcome<()> {
        let sql = CString::new(sql)?;
        // SAFETY: a live connection, and a NUL-terminated string that outlives the call.
        let result = unsafe { PQexec(self.0.as_ptr(), sql.as_ptr()) };
        // SAFETY: the result of PQexec, or null, which it takes for a fatal error.
        let status = unsafe { PQresultStatus(result) };
        // SAFETY: this function has the only pointer to the result, and does not use it again; null is allowed.
        unsafe { PQclear(result) };
        if status == PGRES_COMMAND_OK { Ok(()) } else { Err(self.error()) }
    }

    /// Blocks until the socket has something to read.
    pub(crate) fn wait(&self) -> Outcome<()> {
        // SAFETY: a live connection.
        let socket = unsafe { PQsocket(self.0.as_ptr()) };
        if socket < 0 {
            return Err(self.error());
        }
        // SAFETY: libpq keeps the socket open as long as the connection lives, and it is borrowed here.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) };
        poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::NONE)?;
        Ok(())
    }

    pub(crate) fn consume_input(&mut self) -> Outcome<()> {
        // SAFETY: a live connection.
        if unsafe { PQconsumeInput(self.0.as_ptr()) } == 1 { Ok(()) } else { Err(self.error()) }
    }

    /// Returns the next notification of the consumed input.
    #[inline]
    pub(crate) fn next_notification(&mut self) -> Option<Notification<'_>> {
        // SAFETY: a live connection.
        let raw = unsafe { PQnotifies(self.0.as_ptr()) };
        Some(Notification { raw: NonNull::new(raw)?, connection: PhantomData })
    }

    fn error(&self) -> Failure {
        // SAFETY: a live connection. The text is libpq's own and stays until the next call.
        let text = unsafe { CStr::from_ptr(PQerrorMessage(self.0.as_ptr())) };
        text.to_string_lossy().trim().to_owned().into()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: a live connection, which is not used again.
        unsafe { PQfinish(self.0.as_ptr()) };
    }
}

/// A notification that libpq allocated, freed when dropped.
#[derive(Debug)]
pub(crate) struct Notification<'c> {
    raw: NonNull<PGnotify>,
    connection: PhantomData<&'c Connection>,
}

impl Notification<'_> {
    #[inline]
    pub(crate) fn channel(&self) -> &[u8] {
        // SAFETY: libpq fills in a NUL-terminated name that lives as long as the notification.
        unsafe { CStr::from_ptr(self.raw.as_ref().relname) }.to_bytes()
    }

    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        // SAFETY: libpq fills in a NUL-terminated payload that lives as long as the notification.
        unsafe { CStr::from_ptr(self.raw.as_ref().extra) }.to_bytes()
    }
}

impl Drop for Notification<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it came from PQnotifies, and is not used again.
        unsafe { PQfreemem(self.raw.as_ptr().cast()) };
    }
}
