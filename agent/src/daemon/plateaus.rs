//! Learned plateaus per service, stored across restarts in a small JSON file without tokens.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use heaptide_judge::capture::own_file::{self, OwnFile};
use heaptide_judge::pipeline::Plateaus;

/// Maximum size of the file.
const LARGEST: u64 = 4 << 20;

/// Plateaus by service, and their file.
#[derive(Debug, Default)]
pub struct PlateauStore {
    path: Option<PathBuf>,
    services: BTreeMap<String, Plateaus>,
    changed: bool,
}

impl PlateauStore {
    /// Reads `path`; an unreadable file is logged and ignored.
    pub fn load(path: Option<&Path>) -> Self {
        let mut store = Self {
            path: path.map(Path::to_owned),
            ..Self::default()
        };
        let Some(path) = path else {
            return store;
        };
        match read(path) {
            Ok(services) => {
                info!(services = services.len(), state = %path.display(), "learned plateaus were read");
                store.services = services;
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => warn!(state = %path.display(), "learned plateaus are discarded: {why}"),
        }
        store
    }

    /// The plateaus of a service.
    pub fn of(&self, service: &str) -> Plateaus {
        self.services.get(service).cloned().unwrap_or_default()
    }

    /// Sets the plateaus that a process of a service has learned.
    pub fn set(&mut self, service: &str, plateaus: &Plateaus) {
        if self.path.is_some() && self.services.get(service) != Some(plateaus) {
            self.services.insert(service.to_owned(), plateaus.clone());
            self.changed = true;
        }
    }

    /// Writes them if they have changed: to a new file first, so that a crash leaves one complete file.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.changed) else {
            return;
        };
        match write(path, &self.services) {
            Ok(()) => self.changed = false,
            Err(why) => warn!(state = %path.display(), "learned plateaus cannot be saved: {why}"),
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Plateaus>> {
    serde_json::from_slice(&own_file::read(path, LARGEST)?).map_err(io::Error::from)
}

fn write(path: &Path, services: &BTreeMap<String, Plateaus>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = OwnFile::create(path)?;
    new.file.write_all(&serde_json::to_vec(services)?)?;
    new.file.sync_all()?;
    new.publish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn it_survives_and_a_broken_file_does_no_harm() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/state.json");
        let plateaus: Plateaus =
            serde_json::from_str(r#"{"GET /a, cache": {"holders": 40.0, "bytes": 4000.0}}"#)
                .expect("plateaus");
        let mut store = PlateauStore::load(Some(&path));
        store.set("api", &plateaus);
        store.save();
        assert_eq!(PlateauStore::load(Some(&path)).of("api"), plateaus);
        assert!(PlateauStore::load(Some(&path)).of("other").is_empty());
        fs::write(&path, "{").expect("space");
        assert!(PlateauStore::load(Some(&path)).of("api").is_empty());
        assert!(PlateauStore::load(None).of("api").is_empty());
    }

    #[test]
    fn it_is_its_owners_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state.json");
        let plateaus: Plateaus =
            serde_json::from_str(r#"{"GET /a, cache": {"holders": 40.0, "bytes": 4000.0}}"#)
                .expect("plateaus");
        let saved = || {
            let mut state = PlateauStore::load(Some(&path));
            state.set("api", &plateaus);
            state.save();
        };
        saved();
        let mode = fs::metadata(&path).expect("the state").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);

        let victim = folder.path().join("victim");
        fs::rename(&path, &victim).expect("renamed");
        let before = fs::read(&victim).expect("the victim");
        symlink(&victim, &path).expect("a link");
        assert!(
            PlateauStore::load(Some(&path)).of("api").is_empty(),
            "read by a link"
        );
        fs::write(&victim, "{}").expect("written");
        saved();
        assert_eq!(fs::read(&victim).expect("the victim"), b"{}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2);

        // Not a regular file, or too large.
        fs::remove_file(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("a FIFO");
        assert!(PlateauStore::load(Some(&path)).of("api").is_empty());
        fs::remove_file(&path).expect("removed");
        let mut large = before;
        large.resize(LARGEST as usize + 1, b' ');
        fs::write(&path, large).expect("written");
        assert!(PlateauStore::load(Some(&path)).of("api").is_empty());
    }
}
