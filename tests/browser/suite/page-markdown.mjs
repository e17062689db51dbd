// Markdown on the page: what is rendered, what hostile texts cannot do, and how smoothly a long answer grows.

import assert from "node:assert/strict";
import { open, visible } from "../pages.mjs";

/** The page, with a function `render(text)` that returns HTML. */
async function renderer(context) {
  const { page, outside } = await open(context);
  await visible(page, "#start");
  await page.evaluate(async () => {
    window.markdown = await import("/dist/page/markdown.js");
    window.render = (text) => {
      const root = document.createElement("div");
      root.append(window.markdown.markdown(text));
      document.body.append(root);
      return root.innerHTML;
    };
  });
  return { page, outside, render: (text) => page.evaluate((text) => window.render(text), text) };
}

const LONG = `## Heading

A paragraph with **bold**, *italic*, \`code\` and $x^2$ in the middle of a line that wraps.

* a list
* of three
* items

| a | b |
|---|---:|
| 1 | 2 |

\`\`\`python
def f(x):
    return x + 1  # a comment
\`\`\`

`;

const HOSTILE = [
  "<script>window.hacked = 1</script>",
  "<img src=x onerror='window.hacked = 1'>",
  "<svg onload='window.hacked = 1'><circle/></svg>",
  "<iframe src='javascript:parent.hacked = 1'></iframe>",
  "<style>body { display: none }</style>",
  "<form action='https://host.example'><input autofocus onfocus='window.hacked = 1'></form>",
  "<a href='javascript:window.hacked = 1'>x</a>",
  "[x](javascript:window.hacked=1)",
  "[x](JaVaScRiPt:window.hacked=1 'title')",
  "[x](data:text/html,<script>parent.hacked=1</script>)",
  "[x](?model=https://host.example/m.gguf)",
  "[x](vbscript:x)",
  "![x](https://host.example/track.png)",
  "![x](data:image/svg+xml,<svg onload=alert(1)>)",
  "![x\" onerror=\"window.hacked = 1](https://host.example/a.png)",
  "<https://host.example/\"onmouseover=\"window.hacked=1>",
  "```html\" onload=\"window.hacked=1\n<script>window.hacked = 1</script>\n```",
  "$\\href{javascript:window.hacked=1}{x}$ and $$\\includegraphics{https://host.example/a.png}$$",
  "$\\style{color:red; background:url(https://host.example)}{x}$ $\\html{<img src=x onerror=hacked=1>}$",
  "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=window.hacked=1&gt;\">",
  "| <img src=x onerror=window.hacked=1> |\n|---|\n| <b onclick='window.hacked=1'>x</b><br> |",
  "[ref]\n\n[ref]: javascript:window.hacked=1",
];

export default [
  {
    name: "page: Markdown, code, tables and mathematics are rendered",
    async run(context) {
      const { page, render } = await renderer(context);
      const html = await render(LONG);
      assert.match(html, /<h2>Heading<\/h2>/);
      assert.match(html, /<strong>bold<\/strong>.*<em>italic<\/em>.*<code>code<\/code>/);
      assert.match(html, /<msup><mi>x<\/mi><mn[^>]*>2<\/mn><\/msup>/);
      assert.match(html, /<div class="code-head"><span>python<\/span><button[^>]*>.*Copy<\/button>/);
      assert.match(html, /<span class="hljs-keyword">def<\/span>/);
      assert.match(html, /<td align="right">2<\/td>/);
      assert.match(await render("$$\n\\int_0^1 x\\,dx = \\frac{1}{2}\n$$"), /<math[^>]*display="block".*<mfrac>/s);
      assert.match(await render("So \\(a+b\\) and \\[c\\]"), /<math.*<mi>a<\/mi>.*<math[^>]*display="block".*<mi>c<\/mi>/s);
      assert.doesNotMatch(await render("It costs $5 and $10, or $3-$4."), /<math/);
      assert.match(await render("- [x] done\n- [ ] open"), /☑ .*done.*☐ .*open/s);
      assert.match(await render("a<br>b"), /a<br>b/);
      assert.match(await render("Use `a < b` & <div>"), /<code>a &lt; b<\/code> &amp; &lt;div&gt;/);
      const link = await render("[x](https://host.example/a) ![a picture](https://host.example/p.png)");
      assert.match(link, /rel="noopener noreferrer nofollow"/);
      assert.match(link, /target="_blank"/);
      assert.match(link, />a picture<\/a>/);
      // The code block of the page is what its button copies.
      const copied = await page.evaluate(async () => {
        const texts = [];
        Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => texts.push(text) } });
        document.getElementById("log").append(document.querySelector(".code"));
        document.querySelector("#log .copy-code").click();
        return texts;
      });
      assert.deepEqual(copied, ["def f(x):\n    return x + 1  # a comment"]);
    },
  },
  {
    name: "page: hostile Markdown runs nothing, fetches nothing, and looks like nothing of the page",
    async run(context) {
      const { page, outside, render } = await renderer(context);
      for (const text of [...HOSTILE, HOSTILE.join("\n\n")]) {
        const html = await render(text);
        const found = await page.evaluate((html) => {
          const template = document.createElement("template");
          template.innerHTML = html;
          const faults = [];
          for (const element of template.content.querySelectorAll("*")) {
            const tag = element.localName;
            if (/^(script|style|iframe|object|embed|img|image|form|input|base|link|meta|foreignobject)$/.test(tag)) faults.push(tag);
            for (const { name, value } of element.attributes) {
              if (/^on|^style$|^id$|^src/.test(name) || /^\s*(javascript|data|vbscript):/i.test(value)) faults.push(`${tag} ${name}`);
              if (name.endsWith("href") && !/^(https?:\/\/|mailto:)/.test(value)) faults.push(`${name}=${value}`);
            }
          }
          return faults;
        }, html);
        assert.deepEqual(found, [], `${text}\n${html}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal(await page.evaluate(() => window.hacked), undefined);
      assert.deepEqual(outside, []);
      assert.ok(await page.evaluate(() => getComputedStyle(document.body).display !== "none"));
    },
  },
  {
    name: "page: huge and deeply nested Markdown is shown within seconds",
    async run(context) {
      const { page } = await renderer(context);
      const texts = {
        quotes: `${"> ".repeat(20_000)}x`,
        lists: `${"- ".repeat(20_000)}x`,
        indented: Array.from({ length: 400 }, (_, i) => `${"  ".repeat(i)}- x`).join("\n"),
        brackets: "[".repeat(50_000),
        links: "[a](".repeat(20_000),
        stars: "*a **b ".repeat(10_000),
        backticks: "`".repeat(50_000),
        tables: `|${"a|".repeat(5000)}\n|${"-|".repeat(5000)}\n|${"b|".repeat(5000)}`,
        dollars: "$a ".repeat(20_000),
        math: `$$${"{".repeat(20_000)}$$`,
        frac: `$$${"\\frac{1}{".repeat(2000)}x${"}".repeat(2000)}$$`,
        long: "word ".repeat(100_000),
      };
      for (const [name, text] of Object.entries(texts)) {
        const { seconds, length } = await page.evaluate((text) => {
          const started = performance.now();
          const { length } = window.markdown.markdown(text).textContent;
          return { seconds: (performance.now() - started) / 1000, length };
        }, text);
        assert.ok(seconds < 8, `${name} took ${seconds} s`);
        assert.ok(length > 0, `${name} is shown`);
      }
    },
  },
  {
    name: "page: an answer that grows equals the whole one, and grows smoothly",
    async run(context) {
      const { page } = await renderer(context);
      const result = await page.evaluate(async (part) => {
        const { MarkdownStream, markdown } = window.markdown;
        const text = part.repeat(40) + `\`\`\`js\n${"let a = 1;\n".repeat(200)}\`\`\`\n\nThe end.`;
        const pieces = text.match(/[^]{1,4}/g);
        const root = document.createElement("div");
        document.getElementById("log").append(root);
        let [drawn, longest, spent] = [0, 0, 0];
        const stream = new MarkdownStream(root, (change) => {
          const started = performance.now();
          change();
          const took = performance.now() - started;
          drawn += 1;
          spent += took;
          longest = Math.max(longest, took);
        });
        const started = performance.now();
        // 3,000 tokens and more, at most 300 a second: a fast model.
        for (let i = 0; i < pieces.length; i += 1) {
          stream.append(pieces[i]);
          if (i % 5 === 4) await new Promise((resolve) => setTimeout(resolve, 8));
        }
        stream.end();
        const seconds = (performance.now() - started) / 1000;
        const whole = document.createElement("div");
        whole.append(markdown(text));
        return { tokens: pieces.length, seconds, drawn, spent, longest, same: whole.innerHTML === root.innerHTML };
      }, LONG);
      console.log(`          ${context.name}: ${JSON.stringify(result)}`);
      assert.ok(result.same, "the streamed answer equals the whole one");
      assert.ok(result.tokens > 2500, `${result.tokens} tokens`);
      assert.ok(result.drawn < 70 * result.seconds + 2, "at most once a frame");
      assert.ok(result.spent < 500 * result.seconds, `${result.spent} ms of ${result.seconds} s`);
    },
  },
];
