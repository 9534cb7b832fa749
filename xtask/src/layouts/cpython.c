/* Prints the layout of the CPython whose headers it is compiled with, as the Rust file of that version.
   `cargo xtask layouts cpython` compiles and runs it. What a version declares only in its own .c files is repeated
   below, with the place it is from. */
#define Py_BUILD_CORE 1
#define NEED_OPCODE_TABLES 1
#define NEED_OPCODE_METADATA 1
#include <Python.h>
#if PY_VERSION_HEX < 0x030b0000
#include <frameobject.h>
#endif
#if PY_VERSION_HEX < 0x03090000
#include <internal/pycore_pystate.h>
#include <code.h>
#else
#include <internal/pycore_interp.h>
#endif
#if PY_VERSION_HEX >= 0x030b0000
#include <internal/pycore_frame.h>
#include <internal/pycore_dict.h>
#endif
#if PY_VERSION_HEX >= 0x030e0000
#include <internal/pycore_interpframe_structs.h>
#include <internal/pycore_stackref.h>
#endif
#if PY_VERSION_HEX >= 0x03090000
#include <internal/pycore_runtime.h>
#endif
#include <opcode.h>
#if PY_VERSION_HEX >= 0x030d0000
#include <internal/pycore_opcode_metadata.h>
#elif PY_VERSION_HEX >= 0x030b0000
#include <internal/pycore_opcode.h>
#endif
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Modules/_collectionsmodule.c */
#define BLOCKLEN 64
typedef struct BLOCK {
    struct BLOCK *leftlink;
    PyObject *data[BLOCKLEN];
    struct BLOCK *rightlink;
} block;
typedef struct {
    PyObject_VAR_HEAD
    block *leftblock;
    block *rightblock;
    Py_ssize_t leftindex;
    Py_ssize_t rightindex;
    size_t state;
    Py_ssize_t maxlen;
    Py_ssize_t numfreeblocks;
    block *freeblocks[16];
    PyObject *weakreflist;
} dequeobject;

/* Modules/_functoolsmodule.c */
typedef struct lru_list_elem {
    PyObject_HEAD
    struct lru_list_elem *prev, *next;
    Py_hash_t hash;
    PyObject *key, *result;
} lru_list_elem;
typedef struct {
    lru_list_elem root;
    void *wrapper;
    int typed;
    PyObject *cache;
    Py_ssize_t hits;
    PyObject *func;
    Py_ssize_t maxsize;
} lru_cache_object;

#if PY_VERSION_HEX < 0x030b0000
/* Objects/dict-common.h */
struct _dictkeysobject {
    Py_ssize_t dk_refcnt;
    Py_ssize_t dk_size;
    void *dk_lookup;
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
    char dk_indices[];
};
#endif

#define AT(name, type, field) printf("    %s: %zu,\n", name, offsetof(type, field))
#define NUMBER(name, value) printf("    %s: %llu,\n", name, (unsigned long long)(value))
#define OPTION(name, type, field) printf("    %s: Some(%zu),\n", name, offsetof(type, field))
#define NONE(name) printf("    %s: None,\n", name)

static void objects(void)
{
    AT("ob_type", PyObject, ob_type);
    AT("ob_size", PyVarObject, ob_size);
#if PY_VERSION_HEX >= 0x030e0000
    /* Flags are in the upper part of the word. */
    int digits = 2 * offsetof(PyObject, ob_flags);
#else
    int digits = 2 * sizeof(((PyObject *)0)->ob_refcnt);
#endif
    printf("    refcount: 0x");
    for (; digits > 0; digits--) {
        printf(digits % 4 == 1 && digits > 1 ? "f_" : "f");
    }
    printf(",\n");
    AT("tp_name", PyTypeObject, tp_name);
    AT("tp_basicsize", PyTypeObject, tp_basicsize);
    AT("tp_itemsize", PyTypeObject, tp_itemsize);
    AT("tp_flags", PyTypeObject, tp_flags);
    AT("tp_base", PyTypeObject, tp_base);
    AT("tp_dict", PyTypeObject, tp_dict);
    AT("tp_dictoffset", PyTypeObject, tp_dictoffset);
    AT("ht_qualname", PyHeapTypeObject, ht_qualname);
    AT("ht_slots", PyHeapTypeObject, ht_slots);
    AT("ht_cached_keys", PyHeapTypeObject, ht_cached_keys);
#if PY_VERSION_HEX >= 0x030d0000
    printf("    instance: Instance::Inline,\n");
#elif PY_VERSION_HEX >= 0x030c0000
    printf("    instance: Instance::Tagged,\n");
#elif PY_VERSION_HEX >= 0x030b0000
    printf("    instance: Instance::TwoWords,\n");
#else
    printf("    instance: Instance::Unmanaged,\n");
#endif
}

static void strings(void)
{
    PyASCIIObject text;
    AT("str_length", PyASCIIObject, length);
    AT("str_state", PyASCIIObject, state);
    memset(&text, 0, sizeof text);
    text.state.kind = 1;
    unsigned state;
    memcpy(&state, &text.state, sizeof state);
    NUMBER("str_kind_shift", __builtin_ctz(state));
    memset(&text, 0, sizeof text);
    text.state.compact = 1;
    memcpy(&state, &text.state, sizeof state);
    printf("    str_compact: 0x%x,\n", state);
    memset(&text, 0, sizeof text);
    text.state.ascii = 1;
    memcpy(&state, &text.state, sizeof state);
    printf("    str_ascii: 0x%x,\n", state);
    NUMBER("str_ascii_data", sizeof(PyASCIIObject));
    NUMBER("str_compact_data", sizeof(PyCompactUnicodeObject));
    AT("bytes_data", PyBytesObject, ob_sval);
}

static void containers(void)
{
    AT("tuple_items", PyTupleObject, ob_item);
    AT("list_items", PyListObject, ob_item);
    AT("list_allocated", PyListObject, allocated);
    AT("set_fill", PySetObject, fill);
    AT("set_used", PySetObject, used);
    AT("set_mask", PySetObject, mask);
    AT("set_table", PySetObject, table);
    NUMBER("set_bytes", sizeof(PySetObject));
    AT("deque_left", dequeobject, leftblock);
    AT("deque_left_index", dequeobject, leftindex);
    AT("deque_maxlen", dequeobject, maxlen);
    NUMBER("deque_bytes", sizeof(dequeobject));
    NUMBER("deque_block", BLOCKLEN);
    AT("deque_block_data", block, data);
    AT("deque_block_next", block, rightlink);
    AT("dict_used", PyDictObject, ma_used);
    AT("dict_keys", PyDictObject, ma_keys);
    AT("dict_values", PyDictObject, ma_values);
    NUMBER("dict_bytes", sizeof(PyDictObject));
#if PY_VERSION_HEX >= 0x030b0000
    printf("    keys_size: KeysSize::Logarithms { size: %zu, index_bytes: %zu, kind: %zu },\n",
           offsetof(struct _dictkeysobject, dk_log2_size), offsetof(struct _dictkeysobject, dk_log2_index_bytes),
           offsetof(struct _dictkeysobject, dk_kind));
#else
    printf("    keys_size: KeysSize::Number(%zu),\n", offsetof(struct _dictkeysobject, dk_size));
#endif
    AT("keys_usable", struct _dictkeysobject, dk_usable);
    AT("keys_entries", struct _dictkeysobject, dk_nentries);
    AT("keys_indices", struct _dictkeysobject, dk_indices);
#if PY_VERSION_HEX >= 0x030b0000
    AT("values_first", struct _dictvalues, values);
#else
    NUMBER("values_first", 0);
#endif
    AT("lru_cache", lru_cache_object, cache);
    AT("lru_function", lru_cache_object, func);
    AT("lru_maxsize", lru_cache_object, maxsize);
}

static void programs(void)
{
    /* `md_dict` is private to Objects/moduleobject.c before 3.11: the first field. */
    NUMBER("module_dict", sizeof(PyObject));
    AT("cell_value", PyCellObject, ob_ref);
    AT("function_globals", PyFunctionObject, func_globals);
    AT("function_code", PyFunctionObject, func_code);
    AT("function_defaults", PyFunctionObject, func_defaults);
    AT("function_keywords", PyFunctionObject, func_kwdefaults);
    AT("function_closure", PyFunctionObject, func_closure);
    AT("function_dict", PyFunctionObject, func_dict);
    AT("code_firstlineno", PyCodeObject, co_firstlineno);
    AT("code_filename", PyCodeObject, co_filename);
    AT("code_names", PyCodeObject, co_names);
#if PY_VERSION_HEX >= 0x030b0000
    AT("code_name", PyCodeObject, co_qualname);
    AT("code_lines", PyCodeObject, co_linetable);
    printf("    lines: LineTable::Locations,\n");
    printf("    bytecode: Bytecode::Inline(%zu),\n", offsetof(PyCodeObject, co_code_adaptive));
    printf("    variables: Variables::Together { names: %zu, count: %zu, free: %zu },\n",
           offsetof(PyCodeObject, co_localsplusnames), offsetof(PyCodeObject, co_nlocalsplus),
           offsetof(PyCodeObject, co_nfreevars));
#else
    AT("code_name", PyCodeObject, co_name);
#if PY_VERSION_HEX >= 0x030a0000
    AT("code_lines", PyCodeObject, co_linetable);
    printf("    lines: LineTable::Ranges,\n");
#else
    AT("code_lines", PyCodeObject, co_lnotab);
    printf("    lines: LineTable::Lnotab,\n");
#endif
    printf("    bytecode: Bytecode::Object(%zu),\n", offsetof(PyCodeObject, co_code));
    printf("    variables: Variables::Apart { locals: %zu, cells: %zu, free: %zu },\n",
           offsetof(PyCodeObject, co_varnames), offsetof(PyCodeObject, co_cellvars),
           offsetof(PyCodeObject, co_freevars));
#endif
}

static void runtime(void)
{
    NUMBER("gc_head", sizeof(PyGC_Head));
    NUMBER("gc_generation", sizeof(struct gc_generation));
#if PY_VERSION_HEX < 0x03090000
#define GC(field) offsetof(_PyRuntimeState, gc.field)
    printf("    gc_in_runtime: true,\n");
#else
#define GC(field) offsetof(PyInterpreterState, gc.field)
    printf("    gc_in_runtime: false,\n");
#endif
#ifdef HEAPTIDE_YOUNG_AND_OLD
    /* The incremental collector: `young` and `old[2]` lie as three generations would. */
    NUMBER("gc_generations", GC(young));
#else
    NUMBER("gc_generations", GC(generations));
#endif
    NUMBER("gc_permanent", GC(permanent_generation));
    NUMBER("gc_collecting", GC(collecting));
    AT("interpreters_head", _PyRuntimeState, interpreters.head);
    AT("interp_next", PyInterpreterState, next);
#if PY_VERSION_HEX >= 0x030c0000
    AT("modules", PyInterpreterState, imports.modules);
#else
    AT("modules", PyInterpreterState, modules);
#endif
#if PY_VERSION_HEX >= 0x030b0000
    AT("threads_head", PyInterpreterState, threads.head);
    printf("    tstate_thread: ThreadId::Native(%zu),\n", offsetof(PyThreadState, native_thread_id));
#else
    AT("threads_head", PyInterpreterState, tstate_head);
    printf("    tstate_thread: ThreadId::Pthread(%zu),\n", offsetof(PyThreadState, thread_id));
#endif
    AT("tstate_next", PyThreadState, next);
    AT("tstate_interp", PyThreadState, interp);
    AT("tstate_context", PyThreadState, context);
#if PY_VERSION_HEX >= 0x030d0000
    printf("    tstate_frame: FramePointer::Direct(%zu),\n", offsetof(PyThreadState, current_frame));
#elif PY_VERSION_HEX >= 0x030b0000
    printf("    tstate_frame: FramePointer::Through(%zu, %zu),\n", offsetof(PyThreadState, cframe),
           offsetof(_PyCFrame, current_frame));
#else
    printf("    tstate_frame: FramePointer::Direct(%zu),\n", offsetof(PyThreadState, frame));
#endif
}

static void frames(void)
{
#if PY_VERSION_HEX >= 0x030b0000
#if PY_VERSION_HEX >= 0x030d0000
    AT("frame_code", _PyInterpreterFrame, f_executable);
    AT("frame_instruction", _PyInterpreterFrame, instr_ptr);
#else
    AT("frame_code", _PyInterpreterFrame, f_code);
    AT("frame_instruction", _PyInterpreterFrame, prev_instr);
#endif
    printf("    instruction: Instruction::Address,\n");
    AT("frame_previous", _PyInterpreterFrame, previous);
    AT("frame_owner", _PyInterpreterFrame, owner);
    AT("frame_locals", _PyInterpreterFrame, localsplus);
#if PY_VERSION_HEX >= 0x030e0000
    printf("    entry_owner: Some(%d),\n", (int)FRAME_OWNED_BY_INTERPRETER);
    printf("    frame_top: StackTop::Address(%zu),\n", offsetof(_PyInterpreterFrame, stackpointer));
#else
#if PY_VERSION_HEX >= 0x030c0000
    printf("    entry_owner: Some(%d),\n", (int)FRAME_OWNED_BY_CSTACK);
#else
    NONE("entry_owner");
#endif
    printf("    frame_top: StackTop::Index(%zu),\n", offsetof(_PyInterpreterFrame, stacktop));
#endif
    printf("    generator: Generator::Within { frame: %zu, state: %zu, rest: (%d, %d) },\n",
           offsetof(PyGenObject, gi_iframe), offsetof(PyGenObject, gi_frame_state), FRAME_CREATED, FRAME_EXECUTING);
#else
    AT("frame_code", PyFrameObject, f_code);
    AT("frame_instruction", PyFrameObject, f_lasti);
#if PY_VERSION_HEX >= 0x030a0000
    printf("    instruction: Instruction::Words,\n");
#else
    printf("    instruction: Instruction::Bytes,\n");
#endif
    AT("frame_previous", PyFrameObject, f_back);
    NUMBER("frame_owner", 0);
    AT("frame_locals", PyFrameObject, f_localsplus);
    NONE("entry_owner");
#if PY_VERSION_HEX >= 0x030a0000
    printf("    frame_top: StackTop::Depth { first: %zu, depth: %zu },\n", offsetof(PyFrameObject, f_valuestack),
           offsetof(PyFrameObject, f_stackdepth));
#else
    printf("    frame_top: StackTop::Address(%zu),\n", offsetof(PyFrameObject, f_stacktop));
#endif
    printf("    generator: Generator::Frame(%zu),\n", offsetof(PyGenObject, gi_frame));
#endif
}

static void debug_offsets(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    printf("    said: Some(Said {\n        bytes: %zu,\n", sizeof(_Py_DebugOffsets));
#define SAID(name, field) printf("        %s: %zu,\n", name, offsetof(_Py_DebugOffsets, field))
    SAID("interpreters_head", runtime_state.interpreters_head);
    SAID("interp_next", interpreter_state.next);
    SAID("threads_head", interpreter_state.threads_head);
    SAID("gc", interpreter_state.gc);
    NUMBER("    gc_generations", GC(generations) - offsetof(PyInterpreterState, gc));
    NUMBER("    gc_permanent", GC(permanent_generation) - offsetof(PyInterpreterState, gc));
    SAID("gc_collecting", gc.collecting);
    SAID("modules", interpreter_state.imports_modules);
    SAID("tstate_next", thread_state.next);
    SAID("tstate_interp", thread_state.interp);
    SAID("tstate_thread", thread_state.native_thread_id);
    SAID("tstate_frame", thread_state.current_frame);
    SAID("frame_code", interpreter_frame.executable);
    SAID("frame_previous", interpreter_frame.previous);
    SAID("frame_instruction", interpreter_frame.instr_ptr);
    SAID("frame_locals", interpreter_frame.localsplus);
    SAID("frame_owner", interpreter_frame.owner);
    SAID("code_filename", code_object.filename);
    SAID("code_name", code_object.qualname);
    SAID("code_lines", code_object.linetable);
    SAID("code_firstlineno", code_object.firstlineno);
    SAID("code_variables", code_object.localsplusnames);
    SAID("code_bytecode", code_object.co_code_adaptive);
    SAID("ob_type", pyobject.ob_type);
    SAID("tp_name", type_object.tp_name);
    SAID("tp_flags", type_object.tp_flags);
    SAID("tuple_items", tuple_object.ob_item);
    SAID("list_items", list_object.ob_item);
    SAID("dict_keys", dict_object.ma_keys);
    SAID("dict_values", dict_object.ma_values);
    SAID("bytes_data", bytes_object.ob_sval);
    SAID("str_state", unicode_object.state);
    SAID("str_length", unicode_object.length);
    SAID("str_ascii_data", unicode_object.asciiobject_size);
    printf("    }),\n");
#else
    NONE("said");
#endif
}

/* What an instruction does, by its number without specialisation; NULL for none of interest. */
static const char *kind(int opcode)
{
    switch (opcode) {
    case EXTENDED_ARG: return "Extended";
    case LOAD_NAME: return "Name";
#if PY_VERSION_HEX >= 0x030b0000
    case LOAD_GLOBAL: return "Global";
#else
    case LOAD_GLOBAL: return "Name";
#endif
#if PY_VERSION_HEX >= 0x030c0000
    case LOAD_ATTR: return "AttributeOrMethod";
#else
    case LOAD_ATTR: return "Attribute";
    case LOAD_METHOD: return "Method";
#endif
    case LOAD_FAST: return "Variable";
    case STORE_SUBSCR: return "StoreItem";
#if PY_VERSION_HEX >= 0x030b0000
    case LOAD_DEREF: return "Variable";
#ifdef LOAD_CLASSDEREF
    case LOAD_CLASSDEREF: return "Variable";
#endif
#ifdef LOAD_FAST_CHECK
    case LOAD_FAST_CHECK: return "Variable";
#endif
#ifdef LOAD_FAST_BORROW
    case LOAD_FAST_BORROW: return "Variable";
    case LOAD_FAST_BORROW_LOAD_FAST_BORROW: return "Variables";
#endif
#ifdef LOAD_FAST_LOAD_FAST
    case LOAD_FAST_LOAD_FAST: return "Variables";
    case STORE_FAST_LOAD_FAST: return "StoreAndVariable";
#endif
    case BINARY_OP: return "Binary";
    default: return NULL;
#else
    /* Without columns the stack has to be followed: how many values an instruction takes and leaves. */
    case LOAD_DEREF: case LOAD_CLASSDEREF: return "Captured";
    case INPLACE_ADD: case INPLACE_OR: return "InPlace";
    case CALL_METHOD: return "CallMethod";
    case POP_TOP: case STORE_NAME: case STORE_GLOBAL: case STORE_FAST: case STORE_DEREF: case DELETE_ATTR:
    case POP_JUMP_IF_FALSE: case POP_JUMP_IF_TRUE: case RETURN_VALUE: case IMPORT_STAR: case PRINT_EXPR:
    case LIST_APPEND: case SET_ADD: return "Stack(1, 0)";
#ifdef LIST_EXTEND
    case LIST_EXTEND: case SET_UPDATE: case DICT_MERGE: case DICT_UPDATE: return "Stack(1, 0)";
    case IS_OP: case CONTAINS_OP: return "Stack(2, 1)";
    case JUMP_IF_NOT_EXC_MATCH: return "Stack(2, 0)";
    case LOAD_ASSERTION_ERROR: return "Stack(0, 1)";
    case LIST_TO_TUPLE: return "Stack(1, 1)";
#endif
    case STORE_ATTR: case DELETE_SUBSCR: case MAP_ADD: return "Stack(2, 0)";
    case UNARY_POSITIVE: case UNARY_NEGATIVE: case UNARY_NOT: case UNARY_INVERT: case GET_ITER:
    case GET_YIELD_FROM_ITER: case GET_AWAITABLE: case YIELD_VALUE: case GET_AITER: return "Stack(1, 1)";
    case BINARY_POWER: case BINARY_MULTIPLY: case BINARY_MODULO: case BINARY_ADD: case BINARY_SUBTRACT:
    case BINARY_SUBSCR: case BINARY_FLOOR_DIVIDE: case BINARY_TRUE_DIVIDE: case BINARY_MATRIX_MULTIPLY:
    case BINARY_LSHIFT: case BINARY_RSHIFT: case BINARY_AND: case BINARY_XOR: case BINARY_OR:
    case INPLACE_POWER: case INPLACE_MULTIPLY: case INPLACE_MODULO: case INPLACE_SUBTRACT:
    case INPLACE_FLOOR_DIVIDE: case INPLACE_TRUE_DIVIDE: case INPLACE_MATRIX_MULTIPLY: case INPLACE_LSHIFT:
    case INPLACE_RSHIFT: case INPLACE_AND: case INPLACE_XOR: case COMPARE_OP: case IMPORT_NAME:
    case YIELD_FROM: return "Stack(2, 1)";
    case LOAD_CONST: case LOAD_CLOSURE: case LOAD_BUILD_CLASS: case FOR_ITER: return "Stack(0, 1)";
    case IMPORT_FROM: return "Stack(1, 2)";
    case DUP_TOP: return "Copy(1)";
    case DUP_TOP_TWO: return "Copy(2)";
    case ROT_TWO: return "Rotate(2)";
    case ROT_THREE: return "Rotate(3)";
    case ROT_FOUR: return "Rotate(4)";
    case BUILD_TUPLE: case BUILD_LIST: case BUILD_SET: case BUILD_STRING: case BUILD_SLICE: return "Gather(1, 0)";
    case CALL_FUNCTION: case BUILD_CONST_KEY_MAP: return "Gather(1, 1)";
    case CALL_FUNCTION_KW: return "Gather(1, 2)";
    case BUILD_MAP: return "Gather(2, 0)";
    case CALL_FUNCTION_EX: return "CallUnpacked";
    case MAKE_FUNCTION: return "MakeFunction";
    case FORMAT_VALUE: return "Format";
    case UNPACK_SEQUENCE: return "Unpack";
    case RAISE_VARARGS: return "Raise";
    default: return NULL;
#endif
    }
}

static void opcodes(void)
{
    struct row {
        const char *kind;
        int caches;
    } rows[256];
    for (int opcode = 0; opcode < 256; opcode++) {
        int general = opcode, caches = 0;
#if PY_VERSION_HEX >= 0x030b0000
        general = _PyOpcode_Deopt[opcode];
        caches = _PyOpcode_Caches[general];
        if (general == 0 && opcode != 0) {
            rows[opcode] = (struct row){NULL, 0};
            continue;
        }
#endif
        rows[opcode] = (struct row){kind(general), caches};
        if (!rows[opcode].kind && caches) {
            rows[opcode].kind = "Other";
        }
    }
#ifdef MIN_INSTRUMENTED_OPCODE
    printf("    instrumented: Some(%d),\n", MIN_INSTRUMENTED_OPCODE);
#else
    NONE("instrumented");
#endif
#if PY_VERSION_HEX >= 0x030b0000
    printf("    in_place: &[%d, %d],\n", NB_INPLACE_ADD, NB_INPLACE_OR);
#else
    printf("    in_place: &[],\n");
#endif
    printf("    opcodes: &[\n");
    for (int first = 0; first < 256; first++) {
        if (!rows[first].kind) {
            continue;
        }
        struct row row = rows[first];
        printf("        (Kind::%s, %d, &[", row.kind, row.caches);
        const char *comma = "";
        for (int other = first; other < 256; other++) {
            if (rows[other].kind && !strcmp(rows[other].kind, row.kind) && rows[other].caches == row.caches) {
                printf("%s%d", comma, other);
                comma = ", ";
                rows[other].kind = NULL;
            }
        }
        printf("]),\n");
    }
    printf("    ],\n");
}

int main(void)
{
    printf("//! `CPython` %d.%d, from the headers of %s. Written by `cargo xtask layouts cpython`.\n", PY_MAJOR_VERSION,
           PY_MINOR_VERSION, PY_VERSION);
    printf("// tidy: table\n\nuse super::prelude::*;\n\n");
    printf("pub(super) const LAYOUT: Layout = Layout {\n");
    NUMBER("minor", PY_MINOR_VERSION);
    runtime();
    frames();
    programs();
    objects();
    strings();
    containers();
    debug_offsets();
    opcodes();
    printf("};\n");
    return 0;
}
