// Zoom by click and search, for outputs/flamegraph.rs. Positions are shares of the whole graph.
"use strict";
(function () {
  var WIDTH = 1200, CHARACTER = 6.6;
  var frames = Array.prototype.slice.call(document.getElementsByClassName("f"));
  var details = document.getElementById("details");
  var reset = document.getElementById("reset");
  var matched = document.getElementById("matched");
  function share(g, name) { return parseFloat(g.getAttribute("data-" + name)); }
  function place(g, x, width) {
    var rect = g.querySelector("rect"), text = g.querySelector("text");
    var name = g.getAttribute("data-n"), room = Math.floor((width - 6) / CHARACTER);
    rect.setAttribute("x", x);
    rect.setAttribute("width", width);
    text.setAttribute("x", x + 3);
    text.textContent = room < 3 ? "" : name.length <= room ? name : name.slice(0, room - 2) + "..";
  }
  function zoom(to) {
    var left = share(to, "x"), wide = share(to, "w"), level = share(to, "l"), slack = 1e-6;
    if (wide <= 0) { return; }
    frames.forEach(function (g) {
      var x = share(g, "x"), w = share(g, "w");
      var below = share(g, "l") < level && x <= left + slack && x + w >= left + wide - slack;
      var inside = share(g, "l") >= level && x >= left - slack && x + w <= left + wide + slack;
      g.style.display = below || inside ? "" : "none";
      g.style.opacity = below ? 0.5 : 1;
      if (below) { place(g, 0, WIDTH); }
      if (inside) { place(g, (x - left) / wide * WIDTH, w / wide * WIDTH); }
    });
    reset.setAttribute("visibility", level > 0 ? "visible" : "hidden");
  }
  function search() {
    var text = window.prompt("Search functions (regular expression)", "");
    if (text === null) { return; }
    var pattern = null;
    try { pattern = text === "" ? null : new RegExp(text); } catch (error) { window.alert(error.message); }
    var total = 0, end = -1;
    // Frames come in the order callers first, left to right: one that starts before the end of the
    // last match lies within it and is not counted again.
    frames.forEach(function (g) {
      var found = pattern !== null && pattern.test(g.getAttribute("data-n"));
      g.classList.toggle("found", found);
      if (found && share(g, "x") >= end - 1e-6) { total += share(g, "w"); end = share(g, "x") + share(g, "w"); }
    });
    matched.textContent = pattern === null ? " " : "matched " + (total * 100).toFixed(1) + " %";
  }
  frames.forEach(function (g) {
    g.addEventListener("click", function () { zoom(g); });
    g.addEventListener("mouseover", function () { details.textContent = g.querySelector("title").textContent; });
    g.addEventListener("mouseout", function () { details.textContent = " "; });
  });
  if (frames.length > 0) { reset.addEventListener("click", function () { zoom(frames[0]); }); }
  document.getElementById("search").addEventListener("click", search);
  window.addEventListener("keydown", function (event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f") { event.preventDefault(); search(); }
    if (event.key === "Escape" && frames.length > 0) { zoom(frames[0]); }
  });
})();
