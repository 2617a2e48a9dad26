// SPDX-License-Identifier: Apache-2.0
// The PKCS#11 module that breaks things, as tests in the same process tell it to; see shim.c, also
// for how to tell it from outside. Link the test with pkcs11_shim and give token_open the path
// SHIM_PATH; set SHIM_MODULE to the real module before. function: a name such as "C_Sign".
#pragma once

// Everything as if there was no shim; counters at 0. Threads that hang go on.
void shim_reset(void);

// From now on, shim_reset or not: what follows, but for counters, concerns this token of the module
// alone, where a function says which it is about. NULL: all.
void shim_only_token(const char *label);

// The nth call of function from now (1: the next) returns rv, and the following ones: times in all,
// 0: until shim_reset. The real function is not called.
void shim_fail(const char *function, unsigned long rv, unsigned nth, unsigned times);

// Every call of function (NULL: of any) takes so much longer.
void shim_delay(const char *function, unsigned ms);

// Calls of function do not come back before shim_reset.
void shim_hang(const char *function);
unsigned shim_hanging(void); // how many calls hang now

// C_OpenSession fails with CKR_SESSION_COUNT beyond so many; 0: no limit.
void shim_limit_sessions(unsigned limit);

// The token is out: no slot has one, every call for one fails, all sessions are gone. rv: what
// calls with a session return, e.g. CKR_DEVICE_REMOVED.
void shim_pull(unsigned long rv);
void shim_plug(void);

// All sessions die, as when the token was out for a moment.
void shim_kill_sessions(void);
// Nobody is logged in any more, sessions live on.
void shim_log_out(void);

// The token does not have this mechanism.
void shim_hide(unsigned long mechanism);

// Flags that C_GetTokenInfo reports in addition, e.g. CKF_USER_PIN_FINAL_TRY.
void shim_token_flags(unsigned long flags);
// They appear with the next call of function.
void shim_token_flags_after(const char *function, unsigned long flags);

// Peer points must come as DER OCTET STRING, raw ones are refused (as some tokens do).
void shim_want_der_points(void);

// The token makes this flag of new private keys true, whatever the template says, and shows the
// wrong one in copies.
void shim_insist(unsigned long attribute);
// The handle of the last copy (C_CopyObject), 0: none; and of the key last given to C_SignInit or
// C_DecryptInit.
unsigned long shim_copy(void);
unsigned long shim_copier(void); // the session it is in
unsigned long shim_used(void);

unsigned shim_calls(const char *function); // since shim_reset, failed ones included
unsigned shim_sessions(void);              // open now
