// The page's own script: the toggle between text and lab, and small helps. Without it the text is still all there.
{
  const read = document.getElementById("read"), live = document.getElementById("live"), footer = document.querySelector("footer");
  const toggle = document.querySelectorAll("header nav a");
  const served = location.protocol.startsWith("http");
  const NOT_RUNNING =
    '<div class="box admonition"><p class="title">The live lab is not running</p>' +
    "<p>Start it with <code>stepfit learn</code>, then open <a href=\"http://localhost:4000/?view=live\">http://localhost:4000</a>. " +
    "The text and its players need no server.</p></div>";
  let lab, height;

  // ---- Text or lab --------------------------------------------------------------------------------------------

  const isLive = () => new URLSearchParams(location.search).get("view") === "live";

  /** The settings in the page's address, for the lab. */
  function settings() {
    const asked = new URLSearchParams(location.search);
    asked.delete("view");
    return asked.toString();
  }

  function show() {
    const now = isLive();
    read.hidden = footer.hidden = now;
    live.hidden = !now;
    for (const link of toggle) {
      if ((link.search === "?view=live") === now) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (now) open();
  }

  /** Make the lab on first use; go to the settings of the address where they are not the lab's own. */
  async function open() {
    const asked = settings();
    if (lab && (!asked || asked === mirrored())) return mirror();
    if (!served || !(await isUp())) return (live.innerHTML = NOT_RUNNING), (lab = null);
    const address = `/live/?embed=true${asked && `&${asked}`}`;
    if (lab) return lab.contentWindow.location.replace(address);
    lab = document.createElement("iframe");
    lab.title = "Live lab";
    lab.src = address;
    lab.addEventListener("load", fit);
    live.replaceChildren(lab);
  }

  async function isUp() {
    try {
      return (await fetch("/live/_stcore/health")).ok;
    } catch {
      return false;
    }
  }

  /** The settings in the lab's address. */
  function mirrored() {
    const has = new URLSearchParams(lab.contentWindow.location.search);
    has.delete("embed");
    return has.toString();
  }

  /** Keep the page's address at the moment that the lab shows, so that it can be copied and bookmarked. */
  function mirror() {
    if (!lab || !isLive() || !lab.contentWindow.location.pathname.startsWith("/live/")) return;
    const has = mirrored(), address = `?view=live${has && `&${has}`}`;
    if (address !== location.search) history.replaceState(null, "", address);
  }

  /** Make the frame as high as what is in it: one scroll bar, not two. */
  function fit() {
    const inside = lab.contentDocument, grown = new ResizeObserver(() => {
      const wanted = inside.querySelector('[data-testid="stMainBlockContainer"]')?.offsetHeight;
      if (wanted && wanted !== height) lab.style.height = `${(height = wanted)}px`;
    });
    const look = setInterval(() => {
      const block = inside.querySelector('[data-testid="stMainBlockContainer"]');
      if (block) grown.observe(block);
      if (block || !inside.defaultView) clearInterval(look);
    }, 100);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="?view="]');
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (link.search !== location.search) history.pushState(null, "", link.search);
    show();
    scrollTo(0, 0);
  });
  addEventListener("popstate", show);
  setInterval(mirror, 250);
  show();

  // ---- Notebooks --------------------------------------------------------------------------------------------------

  // The links are the course's own addresses. The lesson's server leads there too, and past the login.
  if (served) isUp().then((up) => {
    for (const link of up ? document.querySelectorAll('a[href^="http://localhost:8888/"]') : []) {
      link.href = `/nb/${link.pathname.split("/").pop()}`;
    }
  });

  // ---- The way through the text ---------------------------------------------------------------------------------

  const contents = document.querySelector("#contents details"), wide = matchMedia("(min-width: 64rem)");
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const unfold = () => (contents.open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
  contents.addEventListener("click", (event) => event.target.closest("a") && unfold());

  const headings = [...links.keys()].map((id) => document.getElementById(id));
  let due = 0;
  function here() {
    due = 0;
    const last = headings.findLast((heading) => heading.getBoundingClientRect().top < innerHeight / 3);
    for (const [id, link] of links) {
      if (id === last?.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  }
  addEventListener("scroll", () => (due ||= requestAnimationFrame(here)), { passive: true });
  here();

  // ---- Small helps ----------------------------------------------------------------------------------------------

  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    block.append(button);
  }

  // What is too wide scrolls in its own box, and the keyboard must reach it.
  const boxes = new ResizeObserver((changed) => {
    for (const { target } of changed) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".code > pre, .output > pre, .table, .formula")) boxes.observe(box);

  // Paper has no clicks: solutions are printed open.
  const folded = () => document.querySelectorAll("details.solution:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => (opened = [...folded()]).forEach((one) => (one.open = true)));
  addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));
}
