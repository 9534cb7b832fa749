//! The page says what the report says, and names of the target are no markup.

use super::*;
use heaptide_judge::fixtures;

#[test]
fn the_page_says_what_the_report_says() {
    let report = fixtures::leak();
    let page = render(&report, &LiveStacks::default());
    let top = &report.findings[0];
    assert!(page.starts_with("<!DOCTYPE html>"));
    for said in [&report.target.runtime, &top.route, &top.site.function] {
        assert!(page.contains(said.as_str()), "{said}\n{page}");
    }
    for route in &report.routes {
        assert!(page.contains(&route.route), "{}", route.route);
    }
    assert!(page.contains(&kept(top)), "{page}");
}

/// It loads nothing, and a name in it is no markup.
#[test]
fn names_of_the_target_are_text() {
    let mut report = fixtures::leak();
    let evil = "</title><script src=\"http://example.com/x.js\"></script>";
    evil.clone_into(&mut report.target.exe);
    evil.clone_into(&mut report.reason);
    evil.clone_into(&mut report.findings[0].route);
    evil.clone_into(&mut report.findings[0].site.function);
    evil.clone_into(&mut report.findings[0].evidence[0]);
    report.routes[0].route = evil.to_owned();
    report.target.limitations.push(evil.to_owned());
    let mut stacks = fixtures::stacks();
    let mut frames = stacks.stacks[0].frames.to_vec();
    evil.clone_into(&mut frames[0].function);
    stacks.stacks[0].frames = frames.into();
    let page = render(&report, &stacks);
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script src"), "{page}");
    // The graph is escaped once as SVG and once as an attribute.
    assert!(page.contains("srcdoc=\"&lt;?xml"), "{page}");
    assert!(page.contains("&amp;lt;script src"), "{page}");
}

#[test]
fn a_service_with_many_routes_has_a_small_page() {
    let mut report = fixtures::leak();
    let route = report.routes[0].clone();
    report.routes = vec![route; 10_000];
    let page = render(&report, &LiveStacks::default());
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    assert!(page.contains("and 9500 more"));
}
