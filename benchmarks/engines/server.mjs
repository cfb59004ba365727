// Serves one of the other engines: POST a signed event, and it is answered once the engine has upserted the object.
// node server.mjs <package> <folder of the database's socket> <database> <signing secret>

import { createRequire } from 'node:module'
import http from 'node:http'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const [name, host, database, secret] = process.argv.slice(2)
// Packages are looked for in the folder that this is run in, where they were installed.
const found = createRequire(path.join(process.cwd(), 'here.js')).resolve(name)
const { StripeSync, runMigrations } = await import(found)
const databaseUrl = `postgresql://postgres@localhost/${database}?host=${encodeURIComponent(host)}`
const quiet = { info() {}, warn() {}, debug() {}, error: console.error }
const config = {
  poolConfig: { connectionString: databaseUrl, max: 10 },
  stripeSecretKey: 'sk_test_simulator_default',
  stripeWebhookSecret: secret,
  stripeAccountId: 'acct_1Benchmark',
  logger: quiet,
}

// One engine makes its tables from Stripe's API description; the customer's part of it is enough, and needs no network.
const text = { type: 'string' }, number = { type: 'integer' }, truth = { type: 'boolean' }, object = { type: 'object' }
const customer = {
  id: text, object: text, address: object, balance: number, created: number, currency: text, default_source: text,
  delinquent: truth, description: text, discount: object, email: text, invoice_prefix: text, invoice_settings: object,
  livemode: truth, metadata: object, name: text, next_invoice_sequence: number, phone: text,
  preferred_locales: { type: 'array', items: text }, shipping: object, tax_exempt: text, test_clock: text,
}
const description = {
  openapi: '3.0.0',
  info: { title: 'customers', version: '2020-08-27' },
  paths: {},
  components: { schemas: { customer: { type: 'object', 'x-resourceId': 'customer', properties: customer } } },
}
const openApiSpecPath = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'engine-')), 'spec.json')
fs.writeFileSync(openApiSpecPath, JSON.stringify(description))
await runMigrations({ databaseUrl, schema: 'stripe', schemaName: 'stripe', openApiSpecPath, logger: quiet })

const sync = StripeSync.create ? await StripeSync.create(config) : new StripeSync(config)
const engine = sync.webhook ?? sync
const received = '{"received": true}'
const server = http.createServer((request, response) => {
  const pieces = []
  request.on('data', (piece) => pieces.push(piece))
  request.on('end', async () => {
    let status = 200
    try {
      await engine.processWebhook(Buffer.concat(pieces), request.headers['stripe-signature'])
    } catch (error) {
      console.error(error)
      status = 400
    }
    response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': received.length })
    response.end(received)
  })
})
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ event: 'service.started', url: `http://127.0.0.1:${server.address().port}` }))
})
process.on('SIGTERM', () => process.exit(0))
