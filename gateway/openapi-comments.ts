import type {
  DescEnum,
  DescEnumValue,
  DescField,
  DescFile,
  DescMessage,
  DescMethod,
  DescService,
} from "@bufbuild/protobuf";

/** The comments of the contract as Markdown, out of the descriptors' source info. */

/** The numbers of fields in descriptor.proto, of which the paths of source info consist. */
const PACKAGE = 2;
const [FILE_MESSAGE, FILE_ENUM, FILE_SERVICE] = [4, 5, 6];
const [MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM] = [2, 3, 4];
const [ENUM_VALUE, SERVICE_METHOD] = [2, 2];

/** What stands above an element; "" when nothing does. */
export function commentOf(
  element: DescMessage | DescField | DescEnum | DescEnumValue | DescService | DescMethod,
): string {
  const file = element.kind === "field" || element.kind === "enum_value" ? element.parent.file : fileOf(element);
  return commentAt(file, pathOf(element));
}

/** What stands above `package` in the file. */
export function packageCommentOf(file: DescFile): string {
  return commentAt(file, [PACKAGE]);
}

function fileOf(element: DescMessage | DescEnum | DescService | DescMethod): DescFile {
  return element.kind === "rpc" ? element.parent.file : element.file;
}

function pathOf(
  element: DescMessage | DescField | DescEnum | DescEnumValue | DescService | DescMethod,
): readonly number[] {
  switch (element.kind) {
    case "message":
      return element.parent === undefined
        ? [FILE_MESSAGE, element.file.proto.messageType.indexOf(element.proto)]
        : [...pathOf(element.parent), MESSAGE_NESTED, element.parent.proto.nestedType.indexOf(element.proto)];
    case "enum":
      return element.parent === undefined
        ? [FILE_ENUM, element.file.proto.enumType.indexOf(element.proto)]
        : [...pathOf(element.parent), MESSAGE_ENUM, element.parent.proto.enumType.indexOf(element.proto)];
    case "service":
      return [FILE_SERVICE, element.file.proto.service.indexOf(element.proto)];
    case "field":
      return [...pathOf(element.parent), MESSAGE_FIELD, element.parent.proto.field.indexOf(element.proto)];
    case "enum_value":
      return [...pathOf(element.parent), ENUM_VALUE, element.parent.proto.value.indexOf(element.proto)];
    case "rpc":
      return [...pathOf(element.parent), SERVICE_METHOD, element.parent.proto.method.indexOf(element.proto)];
  }
}

const commentsByFile = new WeakMap<DescFile, ReadonlyMap<string, string>>();

function commentAt(file: DescFile, path: readonly number[]): string {
  let comments = commentsByFile.get(file);
  if (comments === undefined) {
    const locations = file.proto.sourceCodeInfo?.location ?? [];
    comments = new Map(locations.map((location) => [location.path.join("."), toMarkdown(location.leadingComments)]));
    commentsByFile.set(file, comments);
  }
  return comments.get(path.join(".")) ?? "";
}

/** Lines of one paragraph are joined; lists and paragraphs stay. */
function toMarkdown(comment: string): string {
  return comment
    .split("\n")
    .map((line) => line.trim())
    .reduce((text, line) => {
      if (line === "") return `${text}\n\n`;
      if (line.startsWith("- ")) return `${text}\n${line}`;
      return text === "" || text.endsWith("\n") ? text + line : `${text} ${line}`;
    }, "")
    .trim();
}
