// SPDX-License-Identifier: Apache-2.0
// What holds for every message, sent or received. Private to this folder.
#pragma once

#include "hsmd/officers/message.h"

// ERR_PERM: a field is out of bounds or does not go with the operation.
enum err message_check_request(const struct message_request *request, struct detail *detail);
enum err message_check_reply(const struct message_reply *reply, struct detail *detail);
