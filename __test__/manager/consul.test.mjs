// time limit: 600 s
import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"
import { PATIENT } from "../conformance/world.mjs"
import { suite } from "./suite.mjs"

watchLeaks({ grace: 120_000 })
const server = await consul(after, { password: true })
suite({ name: "consul", url: (id, params) => server.url(id, { ...PATIENT, ...params }), listsAll: true, steals: true })
