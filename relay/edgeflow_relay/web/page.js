"use strict";
// One message holds [element id, its new content] pairs.
const live = document.getElementById("live");
const stream = new EventSource("/api/v1/status/stream");
stream.onopen = () => { live.textContent = "live"; };
stream.onerror = () => { live.textContent = "connection lost, trying again"; };
stream.onmessage = (message) => {
  for (const [id, content] of JSON.parse(message.data)) {
    document.getElementById(id).innerHTML = content;
  }
};
