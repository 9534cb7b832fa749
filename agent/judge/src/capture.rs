//! Captures: observations in a file, which the same code can judge again.
//!
//! Layout: [`MAGIC`], a version (2 bytes, little endian), then frames. A frame is a length (4 bytes, little
//! endian) and one gzip member of that length. It holds pairs of a pid and an observation in postcard encoding: those of
//! the process that was attached to, and of its children. A frame ends with each snapshot, so an agent that is killed
//! loses at most one interval.
//!
//! A capture contains no credential. Tokens are keyed fingerprints, queries are removed, and path segments
//! that are not plain words are `{id}` ([`mask`]). This changes no route.

pub mod own_file;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::attribution::segments::{mask, whole};
use crate::events::{Observation, Request, Snapshot};
use crate::findings::service;
use crate::judged::Judged;
use crate::pipeline::{JudgeOptions, Pipeline};
use crate::report::Report;
use crate::stacks::LiveStacks;

use self::own_file::OwnFile;

/// First bytes of a capture.
pub const MAGIC: [u8; 6] = *b"HTCAP\n";
/// The version that is written and read.
pub const VERSION: u16 = 7;
/// Bytes of encoded observations after which a frame ends.
const FRAME_BYTES: usize = 1 << 20;
/// Maximum size of a frame, encoded: twice a snapshot of two million groups.
const MOST_FRAME_BYTES: u64 = 256 << 20;

/// Maximum size of a frame in the file. Frames of captures compress better than this.
const MOST_PACKED_BYTES: u64 = 64 << 20;

/// Maximum number of processes in a capture that is judged.
const MOST_PROCESSES: usize = 512;

/// Errors of captures.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be created or opened.
    #[error("cannot open capture {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written: a full disk.
    #[error("cannot write capture {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read capture {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a capture.
    #[error("{} is not a heaptide capture", path.display())]
    NotACapture {
        /// Which file.
        path: PathBuf,
    },
    /// Another version.
    #[error("capture {} has version {found}, this heaptide reads version {VERSION}", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The file ends within a frame.
    #[error("capture {} ends within frame {frame}; the frames before it were used", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Number of the frame, from 0.
        frame: u64,
    },
    /// A frame is damaged.
    #[error("capture {} is damaged in frame {frame} ({what}); the frames before it were used", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Number of the frame, from 0.
        frame: u64,
        /// What is wrong.
        what: String,
    },
}

/// Writes a capture.
pub struct CaptureWriter {
    path: PathBuf,
    file: OwnFile,
    buffer: Vec<u8>,
}

impl CaptureWriter {
    /// Creates the file, readable by its owner only, and writes its header. It replaces an older file at once,
    /// because the capture of an agent that is killed can be judged too.
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let file = OwnFile::create(path).map_err(|source| CaptureError::Open {
            path: path.to_owned(),
            source,
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            file,
            buffer: Vec::new(),
        };
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        let file = &mut writer.file;
        let written = file.file.write_all(&head).and_then(|()| file.publish());
        written.map_err(|source| writer.failed(source))?;
        Ok(writer)
    }

    /// Adds an observation of a process.
    pub fn write(&mut self, pid: u32, observation: &Observation) -> Result<(), CaptureError> {
        let masked = match observation {
            Observation::Request(request) => Some(Observation::Request(Request {
                head: mask(&whole(&request.head, request.path_cut)),
                ..request.clone()
            })),
            _ => None,
        };
        let buffer = std::mem::take(&mut self.buffer);
        let encoded = postcard::to_extend(&(pid, masked.as_ref().unwrap_or(observation)), buffer);
        self.buffer = encoded.map_err(|error| self.failed(io::Error::other(error)))?;
        if self.buffer.len() >= FRAME_BYTES || matches!(observation, Observation::Snapshot(_)) {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the frame and writes it to the file system.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let frame = encoder
            .write_all(&self.buffer)
            .and_then(|()| encoder.finish());
        self.buffer.clear();
        let written = frame.and_then(|frame| {
            let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
            self.file.file.write_all(&length.to_le_bytes())?;
            self.file.file.write_all(&frame)?;
            self.file.file.flush()
        });
        written.map_err(|source| self.failed(source))
    }

    /// Writes the rest. Without it the last frame is lost.
    pub fn finish(mut self) -> Result<(), CaptureError> {
        self.flush()
    }

    fn failed(&self, source: io::Error) -> CaptureError {
        CaptureError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Reads a capture: an iterator of observations with their processes. It ends after an error.
pub struct CaptureReader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    frame: Vec<u8>,
    at: usize,
    frames: u64,
}

impl CaptureReader {
    /// Opens a capture and checks its header.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let opened = File::open(path);
        let file = opened.map_err(|source| CaptureError::Open {
            path: path.to_owned(),
            source,
        })?;
        let mut file = BufReader::new(file);
        let mut head = [0; MAGIC.len() + 2];
        file.read_exact(&mut head)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => CaptureError::NotACapture {
                    path: path.to_owned(),
                },
                _ => CaptureError::Read {
                    path: path.to_owned(),
                    source,
                },
            })?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(CaptureError::NotACapture {
                path: path.to_owned(),
            });
        }
        let found = u16::from_le_bytes([version[0], version[1]]);
        if found != VERSION {
            return Err(CaptureError::Version {
                path: path.to_owned(),
                found,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            frame: Vec::new(),
            at: 0,
            frames: 0,
        })
    }

    fn next_frame(&mut self) -> Result<bool, CaptureError> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let mut length = Vec::with_capacity(4);
        let failed = |path: &Path, source| CaptureError::Read {
            path: path.to_owned(),
            source,
        };
        file.take(4)
            .read_to_end(&mut length)
            .map_err(|source| failed(&self.path, source))?;
        let Ok(bytes) = <[u8; 4]>::try_from(length.as_slice()) else {
            return if length.is_empty() {
                Ok(false)
            } else {
                Err(self.truncated())
            };
        };
        let expected = u64::from(u32::from_le_bytes(bytes));
        let mut packed = Vec::new();
        file.take(expected.min(MOST_PACKED_BYTES + 1))
            .read_to_end(&mut packed)
            .map_err(|source| failed(&self.path, source))?;
        if packed.len() as u64 > MOST_PACKED_BYTES {
            return Err(self.corrupt("too large".to_owned()));
        }
        if packed.len() as u64 != expected {
            return Err(self.truncated());
        }
        self.frame.clear();
        self.at = 0;
        let unpacked = GzDecoder::new(packed.as_slice())
            .take(MOST_FRAME_BYTES + 1)
            .read_to_end(&mut self.frame);
        if let Err(error) = unpacked {
            return Err(self.corrupt(error.to_string()));
        }
        if self.frame.len() as u64 > MOST_FRAME_BYTES {
            return Err(self.corrupt("too large".to_owned()));
        }
        self.frames += 1;
        Ok(true)
    }

    fn truncated(&self) -> CaptureError {
        CaptureError::Truncated {
            path: self.path.clone(),
            frame: self.frames,
        }
    }

    fn corrupt(&self, what: String) -> CaptureError {
        CaptureError::Corrupt {
            path: self.path.clone(),
            frame: self.frames,
            what,
        }
    }

    fn step(&mut self) -> Result<Option<(u32, Observation)>, CaptureError> {
        while self.at >= self.frame.len() {
            if !self.next_frame()? {
                return Ok(None);
            }
        }
        let rest = &self.frame[self.at..];
        match postcard::take_from_bytes::<(u32, Observation)>(rest) {
            Ok((observed, left)) => {
                self.at = self.frame.len() - left.len();
                Ok(Some(observed))
            }
            Err(error) => {
                self.frames = self.frames.saturating_sub(1);
                Err(self.corrupt(error.to_string()))
            }
        }
    }
}

impl Iterator for CaptureReader {
    type Item = Result<(u32, Observation), CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.file = None;
            self.frame.clear();
            self.at = 0;
        }
        step.transpose()
    }
}

/// A judged capture.
#[derive(Debug)]
pub struct Replay {
    /// The report on everything that could be read, of all processes together.
    pub report: Report,
    /// Why the capture could not be read to its end. It is also one of the report's limitations.
    pub damage: Option<CaptureError>,
    /// Live memory of the process that the report is about, as of its last snapshot.
    pub stacks: LiveStacks,
    /// That snapshot.
    pub last: Snapshot,
}

/// Judges a capture.
pub fn replay(path: &Path, options: JudgeOptions) -> Result<Replay, CaptureError> {
    let mut processes: BTreeMap<u32, Judged> = BTreeMap::new();
    let mut damage = None;
    let mut reader = CaptureReader::open(path)?;
    while let Some(observed) = reader.next() {
        let full = processes.len() >= MOST_PROCESSES;
        match observed {
            Ok((pid, _)) if full && !processes.contains_key(&pid) => {
                damage = Some(reader.corrupt(format!("more than {MOST_PROCESSES} processes")));
                break;
            }
            Ok((pid, observation)) => processes
                .entry(pid)
                .or_insert_with(|| Judged::new(options))
                .observe(observation),
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    let reports = processes.values().map(|one| one.pipeline.report());
    let mut report =
        service::sum(reports.collect()).unwrap_or_else(|| Pipeline::new(options).report());
    report
        .target
        .limitations
        .extend(damage.iter().map(ToString::to_string));
    let about = processes.remove(&report.target.pid);
    let stacks = about.as_ref().map(Judged::stacks).unwrap_or_default();
    Ok(Replay {
        report,
        damage,
        stacks,
        last: about.map(|one| one.last).unwrap_or_default(),
    })
}
