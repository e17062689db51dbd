// The table of tests. A row is `{ name, browsers?, seconds?, run(context) }`. Where its data is missing, `run` returns
// `{ skipped: reason }`, or fails in CI.

import answers from "./answers.mjs";
import apis from "./apis.mjs";
import bundlers from "./bundlers.mjs";
import cache from "./cache.mjs";
import chat from "./chat.mjs";
import checkpoints from "./checkpoints.mjs";
import clients from "./clients.mjs";
import demo from "./demo.mjs";
import device from "./device.mjs";
import embeddings from "./embeddings.mjs";
import hub from "./hub.mjs";
import install from "./install.mjs";
import options from "./options.mjs";
import page from "./page.mjs";
import pageBench from "./page-bench.mjs";
import pageChat from "./page-chat.mjs";
import pageMarkdown from "./page-markdown.mjs";
import pageOffline from "./page-offline.mjs";
import pagePictures from "./page-pictures.mjs";
import package_ from "./package.mjs";
import shared from "./shared.mjs";
import sources from "./sources.mjs";

export const TESTS = [
  ...package_,
  ...install,
  ...bundlers,
  ...clients,
  ...answers,
  ...demo,
  ...checkpoints,
  ...sources,
  ...hub,
  ...cache,
  ...shared,
  ...device,
  ...apis,
  ...options,
  ...embeddings,
  ...page,
  ...pageMarkdown,
  ...pageChat,
  ...pageBench,
  ...pagePictures,
  ...pageOffline,
  ...chat,
];
