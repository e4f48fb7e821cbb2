// Calls the OpsAdmin API with openid-client, for each path in the standard input: node with-openid-client.mjs
//
// The issuer, the API and the folder of the mounted Secret are in variables.
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import * as client from 'openid-client'

const { OPSADMIN_ISSUER: ISSUER, OPSADMIN_API: API, OPSADMIN_KEYS: KEYS = '/etc/opsadmin' } = process.env
const LEEWAY = 2 // A token that ends within so many seconds is replaced.

let configuration
let tokens

/** Logs in with the present keys. */
async function logIn() {
  const read = (name) => readFile(`${KEYS}/${name}`, 'utf8')
  const [apiKey, secretKey] = await Promise.all([read('api-key'), read('secret-key')])
  const authentication = client.ClientSecretJwt(secretKey)
  configuration = await client.discovery(new URL(ISSUER), apiKey, {}, authentication, { algorithm: 'oauth2' })
  tokens = await client.clientCredentialsGrant(configuration)
}

async function call(path) {
  const isOld = tokens?.expiresIn() <= LEEWAY
  if (isOld && tokens.refresh_token) {
    tokens = await client.refreshTokenGrant(configuration, tokens.refresh_token)
  } else if (isOld || !tokens) {
    await logIn()
  }
  return fetch(API + path, { headers: { authorization: `Bearer ${tokens.access_token}` } })
}

/** Returns the API's answer. If the login is refused or has ended, reads the keys and logs in once more. */
async function get(path) {
  try {
    const answer = await call(path)
    if (answer.status !== 401) return answer
  } catch (error) {
    if (![400, 401].includes(error.status)) throw error
  }
  tokens = undefined
  return call(path)
}

for await (const path of createInterface({ input: process.stdin })) {
  const answer = await get(path)
  console.log(answer.status, await answer.text())
}
