//! Live bytes as a pprof profile (`profile.proto`, gzipped), for `go tool pprof`.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::format::{base_name, cause};
use super::{FileOutput, OutputError, file, needs_stacks};
use heaptide_judge::events::{Frame, TokenClass};
use heaptide_judge::report::{Report, SiteSummary};
use heaptide_judge::stacks::{LiveStack, LiveStacks};

/// `--pprof`.
pub static OUTPUT: FileOutput = FileOutput {
    flag: "pprof",
    value: "FILE.pb.gz",
    help: "Write a profile of live bytes for `go tool pprof`",
    write: |report, stacks, path| {
        needs_stacks("the pprof profile", report, stacks, path)?;
        write(stacks, report, path)
    },
};

/// Writes the profile of the process of a report to `path` atomically.
pub fn write(stacks: &LiveStacks, report: &Report, path: &Path) -> Result<(), OutputError> {
    file::write(
        "the pprof profile",
        path,
        &render(stacks, report, SystemTime::now())?,
    )
}

/// The profile, gzipped. `taken` is the time of the snapshot.
pub fn render(
    stacks: &LiveStacks,
    report: &Report,
    taken: SystemTime,
) -> Result<Vec<u8>, OutputError> {
    let profile = Builder::default().build(stacks, report, taken);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&profile.encode_to_vec())
        .and_then(|()| gzip.finish())
        .map_err(|error| OutputError::Encode {
            what: "the pprof profile",
            reason: error.to_string(),
        })
}

/// Interns strings, functions, mappings and locations, which the profile refers to by index.
struct Builder<'a> {
    profile: Profile,
    strings: HashMap<&'a str, i64>,
    mappings: HashMap<&'a str, u64>,
    functions: HashMap<(&'a str, &'a str), u64>,
    locations: HashMap<&'a Frame, u64>,
}

impl Default for Builder<'_> {
    fn default() -> Self {
        // Index 0 of the string table is the empty string, by the format's definition.
        let profile = Profile {
            string_table: vec![String::new()],
            ..Profile::default()
        };
        Self {
            profile,
            strings: HashMap::from([("", 0)]),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        }
    }
}

impl<'a> Builder<'a> {
    fn build(mut self, stacks: &'a LiveStacks, report: &'a Report, taken: SystemTime) -> Profile {
        let objects = self.value_type("inuse_objects", "count");
        let space = self.value_type("inuse_space", "bytes");
        self.profile.sample_type = vec![objects, space];
        self.profile.default_sample_type = space.kind;
        self.profile.period_type = Some(self.value_type("space", "bytes"));
        self.profile.period = 1;
        self.profile.time_nanos = taken
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        // pprof treats the first mapping as the program itself.
        self.mapping(base_name(&report.target.exe));
        for stack in &stacks.stacks {
            let location_id = stack
                .frames
                .iter()
                .map(|frame| self.location(frame))
                .collect();
            let label = self.labels(stack, report);
            self.profile.sample.push(Sample {
                location_id,
                value: vec![stack.blocks as i64, stack.bytes as i64],
                label,
            });
        }
        self.profile
    }

    /// `route` and `token` of the requests that allocated the blocks, and the `cause` of the finding that they belong to.
    /// `go tool pprof -tagfocus=route=...` selects by them.
    fn labels(&mut self, stack: &'a LiveStack, report: &'a Report) -> Vec<Label> {
        let mut labels = Vec::new();
        let Some((route, token)) = &stack.origin else {
            return labels;
        };
        let token = match token {
            TokenClass::New => "new",
            TokenClass::Repeat => "repeated",
            TokenClass::None => "none",
        };
        let of_stack = |site: &SiteSummary| {
            let mut frames = stack.frames.iter();
            frames.any(|frame| (&frame.function, frame.line) == (&site.function, site.line))
        };
        let finding = report.findings.iter().find(|finding| {
            finding.route == *route
                && (of_stack(&finding.site) || finding.also.iter().any(of_stack))
        });
        let cause = finding.map(|finding| ("cause", cause(finding.cause)));
        let known = [("route", route.as_str()), ("token", token)];
        for (key, text) in known.into_iter().chain(cause) {
            labels.push(Label {
                key: self.string(key),
                str: self.string(text),
            });
        }
        labels
    }

    fn value_type(&mut self, kind: &'a str, unit: &'a str) -> ValueType {
        ValueType {
            kind: self.string(kind),
            unit: self.string(unit),
        }
    }

    fn string(&mut self, text: &'a str) -> i64 {
        *self.strings.entry(text).or_insert_with(|| {
            self.profile.string_table.push(text.to_owned());
            self.profile.string_table.len() as i64 - 1
        })
    }

    fn mapping(&mut self, module: &'a str) -> u64 {
        if let Some(id) = self.mappings.get(module) {
            return *id;
        }
        let id = self.profile.mapping.len() as u64 + 1;
        let filename = self.string(module);
        // All symbols are resolved, so pprof need not search for the binary.
        self.profile.mapping.push(Mapping {
            id,
            filename,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
        self.mappings.insert(module, id);
        id
    }

    fn function(&mut self, frame: &'a Frame) -> u64 {
        let file = frame.file.as_deref().unwrap_or_default();
        if let Some(id) = self.functions.get(&(frame.function.as_str(), file)) {
            return *id;
        }
        let id = self.profile.function.len() as u64 + 1;
        let name = self.string(&frame.function);
        let filename = self.string(file);
        self.profile.function.push(Function {
            id,
            name,
            system_name: name,
            filename,
        });
        self.functions.insert((&frame.function, file), id);
        id
    }

    fn location(&mut self, frame: &'a Frame) -> u64 {
        if let Some(id) = self.locations.get(frame) {
            return *id;
        }
        let id = self.profile.location.len() as u64 + 1;
        let mapping_id = self.mapping(&frame.module);
        let function_id = self.function(frame);
        let line = Line {
            function_id,
            line: frame.line.map_or(0, i64::from),
        };
        self.profile.location.push(Location {
            id,
            mapping_id,
            line: vec![line],
        });
        self.locations.insert(frame, id);
        id
    }
}

// The parts of https://github.com/google/pprof/blob/main/proto/profile.proto that are used here.

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
#[expect(clippy::struct_excessive_bools, reason = "the format has four")]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use heaptide_judge::fixtures;

    #[test]
    fn the_profile_decodes_to_what_went_in() {
        let stacks = fixtures::stacks();
        let gzipped = render(&stacks, &fixtures::leak(), UNIX_EPOCH).unwrap();
        let mut raw = Vec::new();
        flate2::read::GzDecoder::new(&gzipped[..])
            .read_to_end(&mut raw)
            .unwrap();
        let profile = Profile::decode(&raw[..]).unwrap();
        let string = |index: i64| profile.string_table[index as usize].as_str();

        let types: Vec<_> = profile
            .sample_type
            .iter()
            .map(|t| (string(t.kind), string(t.unit)))
            .collect();
        assert_eq!(
            types,
            [("inuse_objects", "count"), ("inuse_space", "bytes")]
        );
        assert_eq!(string(profile.default_sample_type), "inuse_space");
        let total = |index: usize| profile.sample.iter().map(|s| s.value[index]).sum::<i64>();
        assert_eq!((total(0), total(1)), (40, stacks.bytes() as i64));

        let named = |id: &u64| {
            let location = &profile.location[*id as usize - 1];
            assert_eq!(location.id, *id);
            let line = location.line[0];
            let function = &profile.function[line.function_id as usize - 1];
            let mapping = &profile.mapping[location.mapping_id as usize - 1];
            (
                string(function.name),
                string(function.filename),
                line.line,
                string(mapping.filename),
            )
        };
        let first: Vec<_> = profile.sample[0].location_id.iter().map(named).collect();
        assert_eq!(
            first,
            [
                ("malloc", "", 0, "libc.so.6"),
                ("get_data", "/srv/app.py", 17, "app"),
                ("main", "/srv/app.py", 17, "app"),
            ]
        );
        let label = |label: &Label| (string(label.key), string(label.str));
        let labels: Vec<_> = profile.sample[0].label.iter().map(label).collect();
        assert_eq!(labels[..2], [("route", "GET /api/data"), ("token", "new")]);
        assert!(profile.sample[1].label.is_empty());
        assert_eq!(string(profile.mapping[0].filename), "python3.11");
        // Five functions in two modules besides the program, although the stacks name seven frames.
        assert_eq!((profile.function.len(), profile.mapping.len()), (5, 3));
    }

    #[test]
    fn no_stacks_is_an_empty_profile() {
        assert!(
            !render(&LiveStacks::default(), &fixtures::leak(), UNIX_EPOCH)
                .unwrap()
                .is_empty()
        );
    }
}
