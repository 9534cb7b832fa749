//! `heaptide attach --record FILE`: writes observations to a capture.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use tracing::warn;

use crate::session::Session;
use heaptide_judge::{
    capture::{CaptureError, CaptureWriter},
    events::Observation,
};

/// Records what `session` observes. Fails at once if the file cannot be created. A later failure
/// only ends the recording; [`Recording::finish`] reports it.
pub(super) fn record(session: &mut Session, path: &Path) -> Result<Recording> {
    let writer = CaptureWriter::create(path)?;
    let recording = Recording {
        path: path.to_owned(),
        state: Arc::new(Mutex::new(RecordingState {
            writer: Some(writer),
            error: None,
        })),
    };
    let state = Arc::clone(&recording.state);
    session.set_tap(Box::new(move |about, observation| {
        lock(&state).write(about, observation);
    }));
    Ok(recording)
}

/// A capture that is being written.
pub(super) struct Recording {
    path: PathBuf,
    state: Arc<Mutex<RecordingState>>,
}

struct RecordingState {
    /// `None` after an error: a capture with a gap would give wrong verdicts.
    writer: Option<CaptureWriter>,
    error: Option<CaptureError>,
}

impl RecordingState {
    fn write(&mut self, pid: u32, observation: &Observation) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if let Err(error) = writer.write(pid, observation) {
            warn!("the recording ends here; the observation continues: {error}");
            self.writer = None;
            self.error = Some(error);
        }
    }
}

impl Recording {
    /// Writes the rest, and reports the first error.
    pub(super) fn finish(self) -> Result<()> {
        let mut state = lock(&self.state);
        let written = match (state.error.take(), state.writer.take()) {
            (Some(error), _) => Err(error),
            (None, Some(writer)) => writer.finish(),
            (None, None) => Ok(()),
        };
        written.with_context(|| {
            format!(
                "the recording in {} is incomplete, but `heaptide replay` can use it: free some \
                 space, or record to another disk",
                self.path.display()
            )
        })
    }
}

fn lock(state: &Mutex<RecordingState>) -> MutexGuard<'_, RecordingState> {
    // A panic while writing leaves at worst a truncated frame, which the reader detects.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
