// SPDX-License-Identifier: Apache-2.0
// CURVE keys as text: the Z85 (ZeroMQ RFC 32) of 32 bytes.
#pragma once

#include <stdint.h>

#include "hsmd/base/err.h"

#define CURVE_KEY_SIZE 32
#define CURVE_TEXT_SIZE 41 // with the final 0

// 40 characters that are the Z85 of 32 bytes.
bool curve_is_key(const char *text);

// The 32 bytes. False, and raw is not to be used: the text is no key.
bool curve_decode(const char *text, uint8_t raw[CURVE_KEY_SIZE]);

// The text of 32 bytes.
void curve_encode(const uint8_t raw[CURVE_KEY_SIZE], char text[CURVE_TEXT_SIZE]);

// Reads a file with one public key, white space behind it left out. ERR_PERM: it holds another
// thing.
enum err curve_read_public(const char *path, char key[CURVE_TEXT_SIZE], struct detail *detail);
