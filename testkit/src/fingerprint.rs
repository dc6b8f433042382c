//! Short names for things that are the same.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::Error;

/// Returns the path, size and time of a program, as a text that is different for every program.
pub(crate) fn program(path: &Path) -> Result<String, Error> {
    let found = fs::metadata(path).map_err(Error::on("read the metadata of", path))?;
    let (size, time, nanos) = (found.size(), found.mtime(), found.mtime_nsec());
    Ok(format!("{}|{size}|{time}|{nanos}", path.display()))
}

/// Returns a name for a text: 16 hexadecimal digits of FNV-1a, which does not protect against attacks.
pub(crate) fn name(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_or_text_has_another_name() {
        let [shell, cat] = ["/bin/sh", "/bin/cat"].map(|path| program(Path::new(path)).unwrap());
        assert_ne!(shell, cat);
        assert_eq!(shell, program(Path::new("/bin/sh")).unwrap());
        assert_ne!(name(&shell), name(&cat));
        // The published value of the empty text.
        assert_eq!(name(""), "cbf29ce484222325");
        assert!(program(Path::new("/nonexistent")).is_err());
    }
}
