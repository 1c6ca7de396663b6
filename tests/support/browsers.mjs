// The two browsers every end-to-end test runs in: the real ones Debian ships, not Playwright's own builds,
// because what a page learns of a closed WebSocket is decided by the browser's code.
import { accessSync, constants } from "node:fs";
import { chromium, firefox } from "playwright-core";
import { teachColourScheme } from "./firefox-colour-scheme.mjs";

const all = [
  { name: "chromium", launch: launchChromium },
  { name: "firefox", launch: launchFirefox },
];

/** `[{ name, launch(): Promise<Browser> }]`; SAYWHY_BROWSERS=chromium (comma separated) narrows it. */
export const browsers = select(process.env.SAYWHY_BROWSERS);

// A missing browser must fail and a misspelt name must not select nothing: a run that tested
// less than it seems to is worse than one that fails.
function select(list) {
  if (!list) return all;
  return list.split(",").map((item) => {
    const found = all.find(({ name }) => name === item.trim());
    if (!found) throw new Error(`SAYWHY_BROWSERS: no browser "${item}", only ${all.map(({ name }) => name).join(", ")}`);
    return found;
  });
}

function launchChromium() {
  return chromium.launch({
    executablePath: installed("/usr/bin/chromium", "chromium"),
    args: [
      "--no-sandbox", // test machines run as root
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

async function launchFirefox() {
  const browser = await firefox.launch({
    executablePath: installed("/usr/bin/firefox-esr", "firefox-esr"),
    channel: "moz-firefox", // WebDriver BiDi; without it Playwright speaks Juggler, which only its own builds know
    args: ["--remote-allow-system-access"], // for teachColourScheme
    firefoxUserPrefs: { "layout.css.prefers-color-scheme.content-override": 1 }, // light, Playwright's own default
  });
  try {
    await teachColourScheme(browser);
  } catch (error) {
    await browser.close();
    throw error;
  }
  return browser;
}

function installed(path, debianPackage) {
  try {
    accessSync(path, constants.X_OK);
    return path;
  } catch {
    throw new Error(`${path} is missing: apt-get install ${debianPackage} (or name the browsers to test in SAYWHY_BROWSERS)`);
  }
}
