"use strict";
// One message holds [element id, its new content] pairs; an empty id asks for the page anew.
const live = document.getElementById("live");
const stream = new EventSource("/api/v1/status/stream");
stream.onopen = () => { live.textContent = "live"; };
stream.onerror = () => { live.textContent = "connection lost, trying again"; };
stream.onmessage = (message) => {
  for (const [id, content] of JSON.parse(message.data)) {
    const element = document.getElementById(id);
    if (!element) { location.reload(); return; }
    const open = [...element.querySelectorAll("details")].map((detail) => detail.open);
    element.innerHTML = content;
    element.querySelectorAll("details").forEach((detail, i) => { detail.open = open[i] ?? false; });
  }
};
