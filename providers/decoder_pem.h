// SPDX-License-Identifier: Apache-2.0
// The name of a key in a PEM file, for programs that read their private keys from files:
//     -----BEGIN HSMD PROVIDER URI-----
//     base64 of the DER of a UTF8String: hsmd:NAME
//     -----END HSMD PROVIDER URI-----
// There is nothing secret in it.
#pragma once

#define DECODER_PEM_NAME "HSMD PROVIDER URI"
#define DECODER_STRUCTURE "hsmd-uri" // between the two decoders
