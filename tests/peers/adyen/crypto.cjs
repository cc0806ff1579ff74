// One JSON request per line of input, one JSON answer per line of output. The first argument is the directory with
// node_modules. `library` is nexo (what tills use) or manager (its newer sibling); both are Adyen's own code.
"use strict";
const path = require("node:path");
const readline = require("node:readline");

const security = path.join(process.argv[2], "node_modules/@adyen/api-library/lib/src/security");
const NexoCrypto = require(path.join(security, "nexoCrypto")).default;
const { NexoSecurityManager } = require(path.join(security, "clouddevice/nexoSecurityManager"));

function forNexo(key) {
  return {
    AdyenCryptoVersion: 1, KeyIdentifier: key.identifier, KeyVersion: key.version, Passphrase: key.passphrase,
  };
}

function forManager(key) {
  return {
    adyenCryptoVersion: 1, keyIdentifier: key.identifier, keyVersion: key.version, passphrase: key.passphrase,
  };
}

function answer({ library, act, key, header, text, message }) {
  if (library === "nexo") {
    return act === "encrypt"
      ? { message: NexoCrypto.encrypt(header, text, forNexo(key)) }
      : { text: new NexoCrypto().decrypt(message, forNexo(key)) };
  }
  const manager = new NexoSecurityManager(forManager(key));
  return act === "encrypt" ? { message: manager.encrypt(text, header) } : { text: manager.decrypt(message) };
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  let said;
  try {
    said = answer(JSON.parse(line));
  } catch (error) {
    said = { refused: error.constructor.name };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
});
