//! Properties of a Go program: version, layouts, and the functions and variables of its runtime that are used.

use std::collections::HashMap;

use heaptide_ebpf::go_maps;
use heaptide_process::Module;
use heaptide_process::pclntab::{Function, Table};

use super::layout::Layout;
use super::variables::Variables;
use super::versions::{self, minor};

/// `serverHandler.ServeHTTP`: calls the service's handler.
pub(crate) const SERVE: &str = "net/http.serverHandler.ServeHTTP";
/// `(*response).finishRequest`.
pub(crate) const FINISH: &str = "net/http.(*response).finishRequest";

/// `(*conn).readRequest`: reads a head, whose memory belongs to the request that begins.
pub(crate) const READ: &str = "net/http.(*conn).readRequest";
/// `(*mspan).nextFreeIndex`: looks for a free slot, among others after a processor has taken a span.
pub(crate) const NEXT_FREE: &str = "runtime.(*mspan).nextFreeIndex";
/// `(*mspan).initHeapBits`: a span is new.
pub(crate) const NEW_SPAN: &str = "runtime.(*mspan).initHeapBits";
/// `isSystemGoroutine`: called for each goroutine that starts or ends.
pub(crate) const GOROUTINE: &str = "runtime.isSystemGoroutine";

/// HTTP/2 functions: head read, handler begins, handler returned. Up to Go 1.26, from 1.27 on, and in
/// golang.org/x/net, whose layout is that of the first.
pub(crate) static HTTP2: [[&str; 3]; 3] = [
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

/// `(*Router).Find(method, path, context)` of Echo, up to version 3 and of version 4: stores the route's template in
/// the context.
pub(crate) static ROUTERS: [&str; 2] = [
    "github.com/labstack/echo.(*Router).Find",
    "github.com/labstack/echo/v4.(*Router).Find",
];

/// HTTP servers that do not use net/http, by a function that each program with them has: those of fasthttp (and of fiber,
/// which is built on it), Hertz and gnet. The requests of such a program are read from system calls, those of net/http
/// too.
pub(crate) static OTHER_SERVERS: [(&str, &str); 4] = [
    (
        "fasthttp",
        "github.com/valyala/fasthttp.(*Server).serveConn",
    ),
    (
        "Hertz",
        "github.com/cloudwego/hertz/pkg/protocol/http1.Server.Serve",
    ),
    ("gnet", "github.com/panjf2000/gnet.(*eventloop).open"),
    ("gnet", "github.com/panjf2000/gnet/v2.(*eventloop).open"),
];

/// Properties of a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its version (`1.25.5`).
    pub(crate) version: String,
    /// Layout of that version, if known.
    pub(crate) layout: Option<Layout>,
    /// The net/http functions where requests begin and end, if the program has them and no other server.
    pub(crate) requests: Option<Requests>,
    /// The first of [`OTHER_SERVERS`] that it has.
    pub(crate) other_server: Option<&'static str>,
    /// The triples of [`HTTP2`] that it has: head, begin and end.
    pub(crate) http2: Vec<[(&'static str, Function); 3]>,
    /// The functions of [`ROUTERS`] that it has.
    pub(crate) routers: Vec<(Function, &'static str)>,
    /// Functions where heap objects are sampled.
    pub(crate) heap: Heap,
    /// The runtime's variables.
    pub(crate) variables: Variables,
}

/// Functions of the runtime for heap objects and goroutines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heap {
    /// [`NEXT_FREE`].
    pub(crate) next_free: Option<Function>,
    /// [`NEW_SPAN`].
    pub(crate) new_span: Option<Function>,
    /// [`GOROUTINE`].
    pub(crate) goroutine: Option<Function>,
    /// [`READ`].
    pub(crate) read: Option<Function>,
}

impl Program {
    /// Functions and variables that were not found, one sentence each.
    pub(crate) fn missing(&self) -> Vec<String> {
        let Variables {
            controller,
            cycles,
            phase,
            buckets,
            profile_rate,
            goroutines,
        } = self.variables;
        let mut missing = Vec::new();
        if controller.is_none() || cycles.is_none() || phase.is_none() {
            missing.push(
                "the collector's variables were not found: the reachable heap is not \
                 read",
            );
        }
        if buckets.is_none() || profile_rate.is_none() {
            missing.push("the variables of the heap profile were not found: it is not read");
        }
        if goroutines.is_none() {
            missing.push("the list of goroutines was not found: they are not counted");
        }
        missing.into_iter().map(str::to_owned).collect()
    }

    /// Requests are observed by probes in net/http, so system calls are not needed.
    pub(crate) fn sees_requests(&self) -> bool {
        self.layout.is_some() && self.requests.is_some()
    }
}

/// The functions of net/http that delimit a request. Addresses are those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    /// `serverHandler.ServeHTTP(w, r)`: the head was read, the handler comes next.
    pub(crate) serve: Function,
    /// `(*response).finishRequest()`: after the handler has returned.
    pub(crate) finish: Function,
}

/// Reads the function table and the build information.
pub(super) fn program(pid: u32, main: &Module, version: Option<&str>) -> Option<Program> {
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
        let others = OTHER_SERVERS.iter().map(|(_, function)| function);
        let wanted = wanted.iter().chain(HTTP2.iter().flatten());
        let mut wanted = wanted.chain(&ROUTERS).chain(others);
        if let Some(name) = wanted.find(|wanted| **wanted == name) {
            found.insert(name, function);
        }
    });
    let function = |name: &str| found.get(name).copied();
    let has = |server: &&(&str, &str)| found.contains_key(server.1);
    let other_server = OTHER_SERVERS.iter().find(has).map(|server| server.0);
    let requests = function(SERVE)
        .zip(function(FINISH))
        .filter(|_| other_server.is_none())
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
    let version = version?.to_string();
    let layout = layout(main, &version);
    let variables = Variables::find(&main.elf, main.bias, layout, function);
    main.elf.release();
    Some(Program {
        layout,
        version,
        requests,
        other_server,
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

/// The layout of a version, if its build experiments do not change it.
fn layout(main: &Module, version: &str) -> Option<Layout> {
    let mut layout = minor(version).and_then(versions::layout)?;
    let (_, experiments) = build(main)?;
    let has = |name: &str| experiments.split(',').any(|one| one == name);
    if has("staticlockranking") {
        // Locks are larger, so later fields have other offsets.
        return None;
    }
    if has("noswissmap") {
        layout.http.maps = go_maps::BUCKETS;
    }
    Some(layout)
}

/// The version in `.go.buildinfo`.
pub(super) fn version(main: &Module) -> Option<String> {
    let (version, _) = build(main)?;
    Some(version).filter(|text| text.len() < 32)
}

/// Contents of `.go.buildinfo` since Go 1.18: the version and experiments that differ from the defaults (`go1.25.5
/// X:nodwarf5,noswissmap`).
fn build(main: &Module) -> Option<(String, String)> {
    let bytes = main.elf.section_bytes(main.elf.section(".go.buildinfo")?)?;
    let inline = bytes.get(32..)?;
    let len = usize::from(*inline.first()?);
    let text = std::str::from_utf8(inline.get(1..1 + len)?).ok()?;
    let (version, experiments) = text.split_once(' ').unwrap_or((text, ""));
    let version = version.strip_prefix("go").unwrap_or(version);
    let experiments = experiments.strip_prefix("X:").unwrap_or(experiments);
    Some((version.to_string(), experiments.to_string()))
}
