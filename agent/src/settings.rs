//! Settings of the kernel programs: fingerprint keys, sizes, and the credential of a target.

use std::io;

use heaptide_ebpf::{CredentialPattern, PATTERN_LEN, Settings};
use thiserror::Error;

use crate::values::Credential;

/// Capacity of the live map; sampling keeps it from filling up.
pub const CAPACITY: u32 = 262_144;

/// Errors of creating settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A name is too long for the kernel programs.
    #[error("the name `{name}` of the credential is longer than {most} bytes: use a shorter one")]
    TooLong {
        /// The name.
        name: String,
        /// Maximum length.
        most: usize,
    },
    /// The system returned no random bytes.
    #[error("cannot create random keys for fingerprints: getrandom failed: {0}")]
    Random(io::Error),
}

/// The credential, in the form that the kernel programs compare.
pub fn pattern(credential: &Credential) -> Result<CredentialPattern, SettingsError> {
    let (header, scheme, cookie) = match credential {
        Credential::Bearer => ("authorization".to_owned(), "bearer ".to_owned(), false),
        Credential::Scheme(name) => (
            "authorization".to_owned(),
            format!("{} ", name.to_ascii_lowercase()),
            false,
        ),
        Credential::Header(name) => (name.to_ascii_lowercase(), String::new(), false),
        // Names of cookies are case-sensitive (RFC 6265, 5.4).
        Credential::Cookie(name) => ("cookie".to_owned(), format!("{name}="), true),
    };
    let header = header + ":";
    Ok(CredentialPattern {
        header: padded(&header)?,
        scheme: padded(&scheme)?,
        header_len: header.len() as u32,
        scheme_len: scheme.len() as u32,
        cookie: u64::from(cookie),
    })
}

/// Settings with new random keys, so that fingerprints of two runs cannot be compared.
pub fn settings(capacity: u32) -> Result<Settings, SettingsError> {
    let mut random = [0u64; 6];
    // SAFETY: a valid buffer of that length.
    let got = unsafe { libc::getrandom(random.as_mut_ptr().cast(), size_of_val(&random), 0) };
    if got != size_of_val(&random) as isize {
        return Err(SettingsError::Random(io::Error::last_os_error()));
    }
    let [k0, k1, sip0, sip1, first, second] = random;
    Ok(Settings {
        key: [k0, k1],
        // Odd, so that multiplication loses no word of a window.
        tail_key: [sip0, sip1, first | 1, second | 1],
        sample_from: capacity / 2,
        capacity,
    })
}

fn padded(name: &str) -> Result<[u8; PATTERN_LEN], SettingsError> {
    let mut bytes = [0; PATTERN_LEN];
    bytes
        .get_mut(..name.len())
        .ok_or_else(|| SettingsError::TooLong {
            name: name.to_owned(),
            most: PATTERN_LEN - 1,
        })?
        .copy_from_slice(name.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_become_patterns() {
        let of = |credential| pattern(&credential).unwrap();
        let bearer = of(Credential::Bearer);
        assert_eq!(
            &bearer.header[..bearer.header_len as usize],
            b"authorization:"
        );
        assert_eq!(&bearer.scheme[..bearer.scheme_len as usize], b"bearer ");
        let key = of(Credential::Header("X-Api-Key".into()));
        assert_eq!(&key.header[..key.header_len as usize], b"x-api-key:");
        assert_eq!((key.scheme_len, key.cookie), (0, 0));
        let cookie = of(Credential::Cookie("SID".into()));
        assert_eq!(&cookie.scheme[..cookie.scheme_len as usize], b"SID=");
        assert_eq!(cookie.cookie, 1);
        assert!(pattern(&Credential::Header("x".repeat(40))).is_err());
    }

    #[test]
    fn keys_are_fresh_each_time() {
        let (one, two) = (settings(1000).unwrap(), settings(1000).unwrap());
        assert_ne!(one.key, two.key);
        assert_ne!(one.tail_key, two.tail_key);
        assert_eq!(
            one.tail_key[2..].iter().filter(|key| *key % 2 == 1).count(),
            2
        );
    }
}
