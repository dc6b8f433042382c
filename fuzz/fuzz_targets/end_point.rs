//! Parses a certificate of a server, and computes the hash for channel binding.
#![no_main]

use pgbell::proto::auth::tls_server_end_point;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(hash) = tls_server_end_point(data) {
        assert!([28, 32, 48, 64].contains(&hash.len()));
        // A certificate is one DER value, and each prefix of it is refused.
        assert_eq!(data[0], 0x30);
        assert_eq!(tls_server_end_point(&data[..data.len() - 1]), None);
    }
});
