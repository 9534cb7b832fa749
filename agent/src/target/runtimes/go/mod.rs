//! Go: recognised by its build information or its table of functions; what can be seen of its requests
//! and its heap, and where.

mod pclntab;
mod variables;
pub mod versions;

use std::collections::HashMap;

pub use pclntab::{Function, Place, Table};
pub use variables::Variables;
pub use versions::Layout;

use super::{Inspected, RuntimeMatch};
use versions::minor;

/// `serverHandler.ServeHTTP`: net/http calls the service's handler in it.
pub const SERVE: &str = "net/http.serverHandler.ServeHTTP";
/// `(*response).finishRequest`.
pub const FINISH: &str = "net/http.(*response).finishRequest";

/// `(*conn).readRequest`: a head is read, which is memory of the request that it begins.
pub const READ: &str = "net/http.(*conn).readRequest";
/// `(*mspan).nextFreeIndex`: a processor looks for room in a span that it has just taken, among others.
pub const NEXT_FREE: &str = "runtime.(*mspan).nextFreeIndex";
/// `(*mspan).initHeapBits`: a span is new.
pub const NEW_SPAN: &str = "runtime.(*mspan).initHeapBits";
/// `isSystemGoroutine`: asked of each goroutine that begins or ends.
pub const GOROUTINE: &str = "runtime.isSystemGoroutine";

/// Where HTTP/2 is served: a head has been read, its handler begins, it has returned. Up to Go 1.26, from 1.27
/// on, and from the module beside the standard library, whose layout is that of the first.
pub static HTTP2: [[&str; 3]; 3] = [
    [
        "net/http.(*http2serverConn).newWriterAndRequest",
        "net/http.(*http2serverConn).runHandler",
        "net/http.(*http2responseWriter).handlerDone",
    ],
    [
        "net/http/internal/http2.(*serverConn).newWriterAndRequest",
        "net/http/internal/http2.(*serverConn).runHandler",
        "net/http/internal/http2.(*responseWriter).handlerDone",
    ],
    [
        "golang.org/x/net/http2.(*serverConn).newWriterAndRequest",
        "golang.org/x/net/http2.(*serverConn).runHandler",
        "golang.org/x/net/http2.(*responseWriter).handlerDone",
    ],
];

/// `(*Router).Find(method, path, context)` of Echo, up to its version 3 and of 4: leaves the template of the route in
/// the context.
pub static ROUTERS: [&str; 2] = [
    "github.com/labstack/echo.(*Router).Find",
    "github.com/labstack/echo/v4.(*Router).Find",
];

/// What is known of a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its version (`1.25.5`).
    pub version: String,
    /// Layouts of that version; `None` for one that is not known.
    pub layout: Option<Layout>,
    /// Where a request of net/http begins and ends, if the program serves any.
    pub requests: Option<Requests>,
    /// The places of [`HTTP2`] that are in it: head, begin and end.
    pub http2: Vec<[(&'static str, Function); 3]>,
    /// Those of [`ROUTERS`] that are in it.
    pub routers: Vec<(Function, &'static str)>,
    /// Where objects of the heap can be picked to be followed.
    pub heap: Heap,
    /// The runtime's variables.
    pub variables: Variables,
}

/// Functions of the runtime at which objects of the heap, and goroutines, are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// [`NEXT_FREE`].
    pub next_free: Option<Function>,
    /// [`NEW_SPAN`].
    pub new_span: Option<Function>,
    /// [`GOROUTINE`].
    pub goroutine: Option<Function>,
    /// [`READ`].
    pub read: Option<Function>,
}

impl Program {
    /// Requests are seen by probes in the runtime: system calls need not be looked at for them.
    pub fn sees_requests(&self) -> bool {
        self.layout.is_some() && self.requests.is_some()
    }
}

/// The functions of net/http that say which request a goroutine works on. Addresses are the file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// `serverHandler.ServeHTTP(w, r)`: the head was read, the handler comes next.
    pub serve: Function,
    /// `(*response).finishRequest()`: the handler has returned.
    pub finish: Function,
}

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let main = inspected.modules.first()?;
    let go = [".go.buildinfo", ".gopclntab", ".note.go.buildid"]
        .iter()
        .any(|name| main.elf.section(name).is_some());
    if !go {
        return None;
    }
    let version = version(main);
    let program = program(inspected.pid, main, version.as_deref());
    let name = match &version {
        Some(version) => format!("go {version}"),
        None => "go".to_string(),
    };
    Some(RuntimeMatch {
        limitation: Some(limitation(&name, program.as_ref())),
        name,
        own_heap: true,
        go: program,
        ..RuntimeMatch::default()
    })
}

/// What cannot be seen of a program.
fn limitation(name: &str, program: Option<&Program>) -> String {
    match program {
        None => format!(
            "{name} has no table of functions that heaptide can read (it knows those of Go 1.20 and \
             later): only mappings, resident memory and C allocations (cgo) are seen"
        ),
        Some(Program { layout: None, .. }) => format!(
            "the layout of {name} is not known: requests are followed by system calls and tied to \
             threads, and its heap profile and its goroutines are not read"
        ),
        Some(_) => {
            "Go's garbage-collected heap is followed by samples, an object for every 8 KiB or so: what it \
             keeps per request is an estimate"
                .to_string()
        }
    }
}

fn program(pid: u32, main: &super::Module, version: Option<&str>) -> Option<Program> {
    let table = Table::open(&main.elf, pid, main.bias)?;
    let wanted = [
        SERVE,
        FINISH,
        NEXT_FREE,
        NEW_SPAN,
        GOROUTINE,
        READ,
        "runtime.gcControllerCommit",
        "runtime.gcStart",
        "runtime.mProf_FlushLocked",
        "runtime.profilealloc",
        "runtime.forEachG",
    ];
    let mut found: HashMap<&str, Function> = HashMap::new();
    table.each(|name, function| {
        let mut wanted = wanted.iter().chain(HTTP2.iter().flatten()).chain(&ROUTERS);
        if let Some(name) = wanted.find(|wanted| **wanted == name) {
            found.insert(name, function);
        }
    });
    let function = |name: &str| found.get(name).copied();
    let requests = function(SERVE)
        .zip(function(FINISH))
        .map(|(serve, finish)| Requests { serve, finish });
    let http2 = HTTP2
        .iter()
        .filter_map(|[head, run, done]| {
            Some([
                (*head, function(head)?),
                (*run, function(run)?),
                (*done, function(done)?),
            ])
        })
        .collect();
    let routers = ROUTERS
        .iter()
        .filter_map(|name| Some((function(name)?, *name)))
        .collect();
    let variables = Variables::find(&main.elf, main.bias, function);
    main.elf.release();
    let version = version?.to_string();
    Some(Program {
        layout: minor(&version).and_then(versions::layout),
        version,
        requests,
        http2,
        routers,
        heap: Heap {
            next_free: function(NEXT_FREE),
            new_span: function(NEW_SPAN),
            goroutine: function(GOROUTINE),
            read: function(READ),
        },
        variables,
    })
}

/// The version in `.go.buildinfo` as it is written since Go 1.18.
fn version(main: &super::Module) -> Option<String> {
    let bytes = main.elf.section_bytes(main.elf.section(".go.buildinfo")?)?;
    let inline = bytes.get(32..)?;
    let len = usize::from(*inline.first()?);
    let text = std::str::from_utf8(inline.get(1..1 + len)?).ok()?;
    // `go1.25.5 X:nodwarf5` names experiments too
    let text = text.split(' ').next().unwrap_or(text);
    Some(text.strip_prefix("go").unwrap_or(text).to_string()).filter(|t| t.len() < 32)
}
