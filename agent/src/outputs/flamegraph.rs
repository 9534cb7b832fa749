//! Flame graph of live bytes: one SVG without network access, with zoom by click and search.
//!
//! It is written here because the maintained Rust library (inferno) has the CDDL licence.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::format::{base_name, bytes, count, location, percent};
use super::{FileOutput, OutputError, file, needs_stacks};
use heaptide_judge::events::{Frame, FrameKind};
use heaptide_judge::stacks::LiveStacks;

/// Width of the graph, pixels.
const WIDTH: f64 = 1200.0;
/// Height of a frame.
const ROW: usize = 17;
/// Space above the frames: title and controls.
const TOP: usize = 58;
/// Space below them: the line of details.
const BOTTOM: usize = 30;
/// Narrower frames are omitted, because they are invisible.
const NARROWEST: f64 = 0.1 / WIDTH;
/// Maximum depth of a stack.
const DEEPEST: usize = 512;
/// Width of a character of the labels, pixels.
const CHARACTER: f64 = 6.6;

/// The key of a node. The same function at two lines is two nodes.
type Key<'a> = (&'a str, Option<&'a str>, Option<u32>, &'a str);

#[derive(Default)]
struct Node<'a> {
    frame: Option<&'a Frame>,
    bytes: u64,
    blocks: u64,
    children: BTreeMap<Key<'a>, Node<'a>>,
}

/// `--flamegraph`.
pub static OUTPUT: FileOutput = FileOutput {
    flag: "flamegraph",
    value: "FILE.svg",
    help: "Write a flame graph of live bytes (SVG)",
    write: |report, stacks, path| {
        needs_stacks("the flame graph", report, stacks, path)?;
        let title = title(&report.target.exe, report.target.pid);
        write(stacks, &title, path)
    },
};

/// Writes the graph to `path` atomically.
pub fn write(stacks: &LiveStacks, title: &str, path: &Path) -> Result<(), OutputError> {
    file::write("the flame graph", path, render(stacks, title).as_bytes())
}

/// The graph as SVG: width is live bytes, callers below, allocation at the top.
pub fn render(stacks: &LiveStacks, title: &str) -> String {
    let mut root = Node::default();
    for stack in &stacks.stacks {
        let mut node = &mut root;
        node.add(stack.bytes, stack.blocks);
        for frame in stack.frames.iter().rev().take(DEEPEST) {
            let key = (
                &*frame.function,
                frame.file.as_deref(),
                frame.line,
                &*frame.module,
            );
            node = node.children.entry(key).or_default();
            node.frame = Some(frame);
            node.add(stack.bytes, stack.blocks);
        }
    }
    let total = root.bytes.max(1) as f64;
    let depth = root.depth(total);
    let height = TOP + depth * ROW + BOTTOM;
    let mut svg = String::new();
    push_head(&mut svg, title, height, &root);
    let drawing = Drawing { total, height };
    drawing.push(&mut svg, &root, 0, 0.0);
    svg.push_str("</g>\n<script><![CDATA[\n");
    svg.push_str(include_str!("flamegraph.js"));
    svg.push_str("]]></script>\n</svg>\n");
    svg
}

impl Node<'_> {
    fn add(&mut self, bytes: u64, blocks: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.blocks = self.blocks.saturating_add(blocks);
    }

    fn visible(&self, total: f64) -> bool {
        self.bytes as f64 / total >= NARROWEST
    }

    /// Number of rows with frames that are wide enough.
    fn depth(&self, total: f64) -> usize {
        let visible = self.children.values().filter(|child| child.visible(total));
        1 + visible.map(|child| child.depth(total)).max().unwrap_or(0)
    }
}

struct Drawing {
    total: f64,
    height: usize,
}

impl Drawing {
    fn push(&self, svg: &mut String, node: &Node<'_>, level: usize, left: f64) {
        let share = node.bytes as f64 / self.total;
        let (name, place, colour) = match node.frame {
            None => ("all".to_owned(), String::new(), "#c8c8c8"),
            Some(frame) => (
                frame.function.clone(),
                location(frame.file.as_deref(), frame.line, &frame.module),
                colour(frame.kind),
            ),
        };
        let (x, width) = (left * WIDTH, share * WIDTH);
        let y = self.height - BOTTOM - (level + 1) * ROW;
        let place = if place.is_empty() {
            place
        } else {
            format!(" ({place})")
        };
        let title = format!(
            "{name}{place}: {} in {} blocks, {}",
            bytes(node.bytes as f64),
            count(node.blocks),
            percent(share)
        );
        // data-x and data-w are shares of the whole, from which the script computes a zoomed graph.
        let _ = writeln!(
            svg,
            "<g class=\"f\" data-l=\"{level}\" data-x=\"{left:.7}\" data-w=\"{share:.7}\" \
             data-n=\"{name}\"><title>{title}</title><rect x=\"{x:.2}\" y=\"{y}\" \
             width=\"{width:.2}\" height=\"{}\" fill=\"{colour}\"/><text x=\"{:.2}\" y=\"{}\">\
             {}</text></g>",
            ROW - 1,
            x + 3.0,
            y + 12,
            escape(&fitted(&name, width)),
            name = escape(&name),
            title = escape(&title),
        );
        let mut left = left;
        // The widest frame is first, at the left.
        let mut children: Vec<_> = node
            .children
            .values()
            .filter(|child| child.visible(self.total))
            .collect();
        children.sort_by_key(|child| std::cmp::Reverse(child.bytes));
        for child in children {
            self.push(svg, child, level + 1, left);
            left += child.bytes as f64 / self.total;
        }
    }
}

fn push_head(svg: &mut String, title: &str, height: usize, root: &Node<'_>) {
    let middle = WIDTH / 2.0;
    let _ = write!(
        svg,
        r##"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">
<style>
text {{ font: 11px monospace; fill: #000; }}
.f {{ cursor: pointer; }}
.f rect {{ stroke: #fff; stroke-width: .5; }}
.f text {{ pointer-events: none; }}
.f:hover rect {{ stroke: #000; }}
.found rect {{ fill: #c020c0; }}
.control {{ cursor: pointer; text-decoration: underline; }}
</style>
<rect width="100%" height="100%" fill="#fdfdf6"/>
<text x="{middle}" y="20" text-anchor="middle" style="font-size:15px">{title}</text>
<text x="{middle}" y="36" text-anchor="middle">{total} live in {blocks} blocks; width is bytes, callers below</text>
<text x="10" y="50" id="reset" class="control" visibility="hidden">reset zoom</text>
<text x="120" y="50"><tspan fill="#d9662b">&#9632;</tspan> application  <tspan fill="#5b8dc9">&#9632;</tspan> library  <tspan fill="#a0a0a0">&#9632;</tspan> allocator  <tspan fill="#d8c98a">&#9632;</tspan> unknown</text>
<text x="{right}" y="50" id="search" class="control" text-anchor="end">search</text>
<text x="10" y="{bottom}" id="details"> </text>
<text x="{right}" y="{bottom}" id="matched" text-anchor="end"> </text>
<g id="frames">
"##,
        title = escape(title),
        total = bytes(root.bytes as f64),
        blocks = count(root.blocks),
        right = WIDTH - 10.0,
        bottom = height - 10,
    );
}

/// A heading for a target: `python3.11 (pid 4711)`.
pub fn title(exe: &str, pid: u32) -> String {
    format!("heaptide: live memory of {} (pid {pid})", base_name(exe))
}

fn colour(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::User => "#ee8f57",
        FrameKind::Library => "#8fb4de",
        FrameKind::Allocator => "#bdbdbd",
        FrameKind::Unknown => "#e6daa6",
    }
}

/// The part of a name that fits into `width` pixels.
fn fitted(name: &str, width: f64) -> String {
    let room = ((width - 6.0).max(0.0) / CHARACTER) as usize;
    match (room, name.chars().count()) {
        (0..3, _) => String::new(),
        (room, length) if length <= room => name.to_owned(),
        (room, _) => name.chars().take(room - 2).chain("..".chars()).collect(),
    }
}

/// Text for XML. Control characters are not allowed in XML 1.0 and become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptide_judge::{fixtures, stacks::LiveStack};

    fn titles(svg: &str) -> Vec<&str> {
        svg.split("<title>")
            .skip(1)
            .filter_map(|rest| rest.split("</title>").next())
            .collect()
    }

    #[test]
    fn stacks_are_merged_from_the_outermost_frame() {
        let svg = render(&fixtures::stacks(), "test");
        assert_eq!(
            titles(&svg),
            [
                "all: 3.9 KiB in 40 blocks, 100.0 %",
                "main (srv/app.py:17): 3.8 KiB in 39 blocks, 97.5 %",
                "get_data (srv/app.py:17): 2.9 KiB in 30 blocks, 75.0 %",
                "malloc (libc.so.6): 2.9 KiB in 30 blocks, 75.0 %",
                "Vec&lt;T&gt;::push &amp; &quot;grow&quot; (libc.so.6): 900 B in 9 blocks, 22.5 %",
                "malloc (libc.so.6): 900 B in 9 blocks, 22.5 %",
                "libx.so+0x17 (libc.so.6): 100 B in 1 blocks, 2.5 %",
            ]
        );
        assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_is_drawn_for_nothing() {
        let svg = render(&LiveStacks::default(), "a < b");
        assert_eq!(titles(&svg), ["all: 0 B in 0 blocks, 0 %"]);
        assert!(svg.contains("a &lt; b"));
    }

    #[test]
    fn names_cannot_leave_their_element() {
        let mut stacks = fixtures::stacks();
        let mut frames = stacks.stacks[0].frames.to_vec();
        frames[0].function = "\"/><script>]]>\u{1}".to_owned();
        stacks.stacks = vec![LiveStack {
            frames: frames.into(),
            bytes: 1,
            blocks: 1,
            origin: None,
        }];
        let svg = render(&stacks, "t");
        assert_eq!(svg.matches("<script>").count(), 1);
        assert_eq!(svg.matches("]]>").count(), 1);
        assert!(!svg.contains('\u{1}'));
    }

    #[test]
    fn labels_fit_their_frame() {
        assert_eq!(fitted("function", 10.0), "");
        assert_eq!(fitted("function", 46.0), "func..");
        assert_eq!(fitted("function", 100.0), "function");
    }

    #[test]
    fn the_narrow_are_left_out() {
        let mut stacks = fixtures::stacks();
        stacks.stacks[0].bytes = 1 << 40;
        assert_eq!(titles(&render(&stacks, "t")).len(), 4);
    }
}
