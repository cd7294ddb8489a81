// The recipes of docs/bundlers.md, run with the packages that a user has: the tarballs, installed in an empty folder.
// time limit: 600 s
import { after, before, test } from "node:test"
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { root } from "../../scripts/cargo.mjs"
import { npm, pack } from "../../scripts/pack.mjs"

const page = readFileSync(join(root, "docs/bundlers.md"), "utf8")
const files = [ ...page.matchAll(/^```js file=(\S+)\n([^]*?)^```$/gm) ]
const recipes = [ ...page.matchAll(/^```sh\n([^]*?)^```$/gm) ]

const folder = realpathSync(mkdtempSync(join(tmpdir(), "ipc-mutex-bundlers-")))
const user = join(folder, "user")

after(() => rmSync(folder, { recursive: true, force: true }))

before(() => {
    mkdirSync(user)
    writeFileSync(join(user, "package.json"), "{}")
    npm([ "install", "--offline", "--no-audit", "--no-fund", ...pack(folder) ], user)
    for (const [ , file, code ] of files)
        writeFileSync(join(user, file), code)
})

/** Runs `commands` in `cwd` with the bundlers at hand. Gives both outputs, of which bundlers use either for warnings. */
function run (commands, cwd) {
    const env = { ...process.env, PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env.PATH}` }
    delete env.IPC_MUTEX_NATIVE
    return execFileSync("sh", [ "-ec", `exec 2>&1\n${commands}` ], { cwd, encoding: "utf8", env })
}

test("the page has a recipe for each bundler", () => {
    for (const bundler of [ "esbuild", "webpack", "rollup" ])
        assert.ok(recipes.some(([ , commands ]) => commands.startsWith(`${bundler} `)), bundler)
})

for (const [ , commands ] of recipes)
    test(commands.split("\n")[0], { skip: process.platform === "win32" && "needs sh" }, () => {
        const printed = run(commands, user)
        assert.match(printed, /^exclusive\n$/m)
        assert.doesNotMatch(printed, /warning/i)
    })

test("a bundle without a binary says that it was bundled", { skip: process.platform === "win32" && "needs sh" }, () => {
    run("esbuild main.cjs --bundle --platform=node --outfile=dist/alone.cjs", user)
    const elsewhere = join(user, "..", "elsewhere")
    mkdirSync(elsewhere)
    cpSync(join(user, "dist/alone.cjs"), join(elsewhere, "alone.cjs"))
    assert.match(run("node alone.cjs || true", elsewhere), /it was bundled; mark ipc-mutex as external/)
})
