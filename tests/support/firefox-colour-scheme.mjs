// Firefox ESR 153 has no `emulation.setMediaFeaturesOverride`, yet Playwright sends it with every new
// context, so not even newPage() would work. This answers that one command on Firefox's behalf,
// by way of the same switch its developer tools use. A Firefox that knows the command is left alone.
const command = "emulation.setMediaFeaturesOverride";

export async function teachColourScheme(browser) {
  // Playwright has no public way to its protocol connection; the exact version pin keeps this one valid.
  const bidi = browser._connection.toImpl(browser)._connection;
  const session = bidi.browserSession;
  const refusal = await session.send(command, {}).then(() => "", (error) => error.message);
  if (!refusal.includes("unknown command")) return;

  const { contexts } = await session.send("browsingContext.getTree", { "moz:scope": "chrome" });
  const override = async ({ features, contexts: pages }) => {
    const scheme = features["prefers-color-scheme"];
    if (!pages) {
      // For a whole context there is no switch, only the profile's preference, which says light.
      if (scheme && scheme !== "light") throw new Error("Firefox: use page.emulateMedia({ colorScheme }), not newPage({ colorScheme })");
      return;
    }
    const { type, exceptionDetails } = await session.send("script.callFunction", {
      functionDeclaration: String(overrideInChrome),
      arguments: [pages[0], scheme ?? "none"].map((value) => ({ type: "string", value })),
      target: { context: contexts[0].context },
      awaitPromise: false,
    });
    if (type === "exception") throw new Error(exceptionDetails.text);
  };

  const send = bidi.rawSend.bind(bidi);
  bidi.rawSend = (message) => {
    if (message.method !== command) return send(message);
    override(message.params).then(
      () => bidi._dispatchMessage({ id: message.id, type: "success", result: {} }),
      (error) => bidi._dispatchMessage({ id: message.id, type: "error", error: "unsupported operation", message: error.message }),
    );
  };
}

// Runs inside Firefox's own window, not in a page.
/* global ChromeUtils */
function overrideInChrome(id, scheme) {
  const { NavigableManager } = ChromeUtils.importESModule("chrome://remote/content/shared/NavigableManager.sys.mjs");
  NavigableManager.getBrowsingContextById(id).top.prefersColorSchemeOverride = scheme;
}
