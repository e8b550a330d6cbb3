/* SPDX-License-Identifier: BSD-2-Clause */
/* The note NT_FREEBSD_ABI_TAG: this program is for FreeBSD 14.2. */
	.section .note.tag, "a", @note
	.p2align 2
	.long 8, 4, 1
	.asciz "FreeBSD"
	.long 1402000
	.section .note.GNU-stack, "", @progbits
