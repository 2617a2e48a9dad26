// SPDX-License-Identifier: Apache-2.0
// Mail addresses, as policy and certificates compare them: without case, domains as A-labels.
#pragma once

#include "gateway/message.h"
#include "hsmd/base/err.h"

#define ADDRESS_MAX 320 // bytes, with its 0

// From of the header: ERR_PERM unless there is exactly one From field with exactly one address that
// can be parsed.
enum err address_from(const struct message *message, char from[ADDRESS_MAX], struct detail *detail);
// An envelope address: angle brackets, source route, white space and needless quotes dropped, lower
// case (of ASCII; other letters of a local part are left). ERR_PERM: not an address. "<>" gives "";
// "postmaster" without a domain stays so.
enum err address_normalise(const char *text, char address[ADDRESS_MAX], struct detail *detail);
// A domain, as it stands behind the @ of a normalised address: A-labels (IDNA2008, UTS 46), lower
// case, no dot at its end; address literals ([192.0.2.1]) stay. ERR_PERM: not a domain.
enum err address_normalise_domain(const char *text, char domain[ADDRESS_MAX],
                                  struct detail *detail);
// Behind the last @; "" if none.
const char *address_domain(const char *address);
// Both normalised addresses are the same mailbox.
bool address_is_equal(const char *a, const char *b);
// pattern: "example.com" or "*.example.com" (one or more labels in place of the star). address:
// normalised.
bool address_is_in_domain(const char *address, const char *pattern);
