// The API's description. The document may need a token: it is asked for here, or known from the search page.

const $ = (id) => document.getElementById(id);

async function load() {
  const token = sessionStorage.getItem("token") || "";
  const answer = await fetch("/openapi.json", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const content = await answer.json().catch(() => ({}));
  $("access").hidden = answer.status !== 401;
  $("status").textContent = answer.ok ? "" : content.message || `the sidecar answers ${answer.status}`;
  if (!answer.ok) return;
  const onComplete = () => token && ui.preauthorizeApiKey("bearer", token);
  const ui = SwaggerUIBundle({ spec: content, domNode: $("docs"), validatorUrl: null, onComplete });
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  load();
});
load();
