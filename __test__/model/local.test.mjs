import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { walk } from "./walk.mjs"

watchLeaks()

for (const model of [ "spm", "mpm" ])
    test(`${model}: 50,000 random operations do what the reference says`, async () => {
        const counts = await walk({ name: model, model, url: (id) => `${model}:${id}` }, 50_000)
        for (const [ name, count ] of Object.entries(counts))
            assert.ok(count > 0 || name === "lost", name)
    })
